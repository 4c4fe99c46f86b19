"""Measurements of our detector."""

from __future__ import annotations

import logging
import math
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import clock
from benchmarks.speed.clock import Clock, report, seconds_of
from benchmarks.speed.scenes import CLASSES, random_boxes
from dino_detector import Detector, DetectorGroup, ExportedDetector
from dino_detector.commands.frame import configure_logging
from dino_detector.config import Config
from dino_detector.inference.detector import build_detector
from dino_detector.losses import build_criterion
from dino_detector.models.device import autocast_to
from dino_detector.models.dinov2_base import random_architecture, untrained
from dino_detector.structures.categories import Categories
from dino_detector.structures.predictions import DecoderOutput
from dino_detector.structures.targets import Targets
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.fit import fit
from dino_detector.training.run_data import read_run_data

MATRIX = 2048
"""rows and columns of the matrices whose product measures the machine"""


class StepClock(Callback):
    """Stop the training after the timed steps."""

    def __init__(self, steps: Clock) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Time the step."""
        trainer.should_stop = self.steps.tick()


def training(*, settings: dict[str, Any], warm_up: int, steps: int, filled: bool = False) -> None:
    """Report training images per second; if ``filled``, from a trunk cache that one epoch has filled."""
    configure_logging()
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        config = Config.from_flat(settings | _places(Path(temporary), settings["dino_model"]))
        if filled:
            config = config.replace(cache_trunk=Path(temporary) / "cache", cache_views=1)
            fit(config.replace(epochs=1))
        steps_of = Clock(warm_up=warm_up, steps=steps)
        fit(config.replace(epochs=10_000), callbacks=[StepClock(steps_of)])
    report(images_per_second=config.training.batch_size / steps_of.seconds)


def whole_run(*, settings: dict[str, Any]) -> None:
    """Report the seconds of a training run, from settings to last checkpoint, with an initially empty trunk cache."""
    configure_logging()
    with tempfile.TemporaryDirectory() as temporary:
        config = Config.from_flat(settings | _places(Path(temporary), settings["dino_model"]))
        began = time.perf_counter()
        fit(config.replace(cache_trunk=Path(temporary) / "cache"))
        report(seconds=time.perf_counter() - began)


def latency(
    *, settings: dict[str, Any], picture: str, precision: str, suffix: str | None = None, exported: str = "32"
) -> None:
    """Report the seconds from pixels to detections of a picture.

    Args:
        settings: settings of the detector.
        picture: image file.
        precision: precision of the optimized detector.
        suffix: file type to export to; None measures the optimized detector itself.
        exported: precision of the exported file.
    """
    image = Image.open(picture).convert("RGB")
    with tempfile.TemporaryDirectory() as temporary:
        detector: Any = _detector(settings).optimize(precision=precision)
        if suffix is not None:
            path = Path(temporary) / f"detector{suffix}"
            detector.export(path, precision=exported)
            detector = ExportedDetector.load(path, threads=torch.get_num_threads())
        report(seconds=seconds_of(lambda: detector.predict(image)))


def group(*, settings: dict[str, Any], picture: str, precision: str, detectors: int) -> None:
    """Report the time of one more detector on a shared trunk, in seconds and as a share of one detector alone."""
    image = Image.open(picture).convert("RGB")
    with tempfile.TemporaryDirectory() as temporary:
        places = _places(Path(temporary), settings["dino_model"])
        paths = [Path(temporary) / f"{number}.pth" for number in range(detectors)]
        for number, path in enumerate(paths):
            torch.manual_seed(number)
            _detector(settings | places).save(path)
        alone, together = (DetectorGroup(chosen).optimize(precision=precision) for chosen in (paths[:1], paths))
        of_one, of_all = (seconds_of(lambda one=one: one.predict(image)) for one in (alone, together))
    one_more = (of_all - of_one) / (detectors - 1)
    report(share=one_more / of_one, seconds=one_more, seconds_alone=of_one)


def matching(*, batch: int, queries: int, boxes: int) -> None:
    """Report the seconds to match one decoder layer."""
    torch.manual_seed(0)
    matcher = build_criterion(Config()).matcher
    targets = _targets(batch, boxes)
    logits, predicted = torch.randn(1, batch, queries, 80), random_boxes(1, batch, queries)
    report(seconds=seconds_of(lambda: matcher(logits, predicted, targets)))


class TrainingStep:
    """A training step on random images and targets.

    Args:
        settings: settings of the detector.
        batch: number of images.
        boxes: number of boxes per image.
    """

    def __init__(self, settings: dict[str, Any], *, batch: int, boxes: int) -> None:
        self.config, self.device = Config.from_flat(settings), torch.device("cpu")
        self.detector = _detector(settings).train()
        self.detector.optimize_training(precision=self.config.training.precision, device=self.device)
        self.criterion = build_criterion(self.config)
        self.trained = [parameter for parameter in self.detector.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained)
        self.pixels = torch.randn(batch, 3, *self.config.data.image_size)
        self.targets = _targets(batch, boxes)

    def predict(self) -> DecoderOutput:
        """Return the output of the detector."""
        with autocast_to(self.config.training.precision, self.device):
            return self.detector(self.pixels, self.targets)

    def loss(self, output: DecoderOutput) -> torch.Tensor:
        """Return the total loss of an output."""
        return self.criterion(output, self.targets).total

    def update(self, loss: torch.Tensor) -> None:
        """Take an optimizer step, and free the gradients."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def losses_share(*, settings: dict[str, Any], batch: int, boxes: int) -> None:
    """Report the share of matching and losses in a training step (forward, backward, optimizer)."""
    training_step = TrainingStep(settings, batch=batch, boxes=boxes)
    shares = []
    for _ in range(4):
        began = time.perf_counter()
        output = training_step.predict()
        predicted = time.perf_counter()
        loss = training_step.loss(output)
        measured = time.perf_counter()
        training_step.update(loss)
        shares.append((measured - predicted) / (time.perf_counter() - began))
    report(share=median(shares[1:]))


def step(*, settings: dict[str, Any], batch: int, boxes: int) -> None:
    """Report time, memory and operations of a training step without data loading.

    The numbers are ``seconds``, a median; ``memory_bytes``, the growth of the peak resident memory since before the
    detector was built; ``operations`` of matrix products and convolutions, forward and backward; and ``kept_bytes`` of
    weights, gradients, optimizer state and tensors saved for the backward pass.
    """
    before = psutil.Process().memory_info().rss
    training_step = TrainingStep(settings, batch=batch, boxes=boxes)
    detector, trained = training_step.detector, training_step.trained

    def forward() -> torch.Tensor:
        return training_step.loss(training_step.predict())

    seconds = seconds_of(lambda: training_step.update(forward()), warm_up=1, steps=4)
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    kept = {parameter.data_ptr(): parameter.nbytes for parameter in detector.parameters()}
    kept |= {-1: 3 * sum(parameter.nbytes for parameter in trained)}  # gradients and two moments

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    kept_bytes = sum(kept.values())
    del loss
    detector.backbone.run_layer = torch.nn.Module.__call__
    with sdpa_kernel(SDPBackend.MATH), _operations() as counter:  # the counter misses fused kernels and layer copies
        forward().backward()
    report(seconds=seconds, memory_bytes=memory, operations=counter.get_total_flops(), kept_bytes=kept_bytes)


def matrix_rate(*, precision: str) -> None:
    """Report the operations per second of a large matrix product."""
    report(operations_per_second=_matrix_rate(precision))


def pipeline(*, settings: dict[str, Any], images: int) -> None:
    """Report images per second from files to normalised batches, with training augmentation, in this process."""
    torch.set_num_threads(1)
    config = Config.from_flat(settings)
    data = DetectionData(config=config, run_data=read_run_data(config, training=True))
    data.header = _detector(settings).header
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    began = time.perf_counter()
    seen = 0
    for batch in data.train_dataloader():
        seen += len(batch.image_ids)
        if seen >= images:
            break
    report(images_per_second=seen / (time.perf_counter() - began))


def backbone_share(*, settings: dict[str, Any], precision: str, batch: int) -> None:
    """Report the operations per second of an optimized backbone, as a share of the rate of a large matrix product."""
    device, detector = torch.device("cpu"), _detector(settings)
    backbone = detector.backbone
    pixels = torch.randn(batch, 3, *Config.from_flat(settings).data.image_size)
    with torch.inference_mode(), autocast_to(precision, device):
        with sdpa_kernel(SDPBackend.MATH), _operations() as counter:
            backbone(pixels)
        operations = counter.get_total_flops()  # counted before optimization: the counter does not know packed layers
        detector.optimize(precision=precision)
        rate = operations / seconds_of(lambda: backbone(pixels))
    of_matrices = _matrix_rate(precision)
    report(share=rate / of_matrices, operations_per_second=rate, operations_per_second_of_matrices=of_matrices)


def _matrix_rate(precision: str) -> float:
    """Return the operations per second of a product of two square matrices."""
    data_type = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(MATRIX, MATRIX).to(data_type) for _ in range(2))
    return 2 * MATRIX**3 / seconds_of(lambda: left @ right)


def _operations() -> FlopCounterMode:
    """Return PyTorch's counter with a correction: it takes the gradient of grouped convolutions for a dense one."""

    def of_gradient(
        grad_output: Sequence[int], inputs: Sequence[int], weight: Sequence[int], *others: Any, out_shape: Any = None
    ) -> int:
        transposed, wanted = others[4], others[-1]
        places = math.prod((inputs if transposed else grad_output)[2:])
        return sum(wanted[:2]) * 2 * inputs[0] * places * math.prod(weight)

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: of_gradient})


def _targets(batch: int, boxes: int) -> Targets:
    return Targets(
        boxes_cxcywh=random_boxes(batch, boxes),
        labels=torch.randint(CLASSES, (batch, boxes)),
        valid=torch.ones(batch, boxes, dtype=torch.bool),
    )


def _detector(settings: dict[str, Any]) -> Detector:
    known = Categories(tuple(range(1, CLASSES + 1)), tuple(f"class {number}" for number in range(1, CLASSES + 1)))
    random = {"backbone_weights": "random"} if not Path(settings["dino_model"]).is_dir() else {}
    return build_detector(Config.from_flat(settings | random), categories=known).merge()


def _places(folder: Path, dino_model: str) -> dict[str, Any]:
    """Save a backbone with random weights, and return the settings of its folder and of the output folder."""
    base = folder / "base"
    untrained(random_architecture(dino_model, {}).to_dict()).save_pretrained(base)
    return {"dino_model": str(base), "output_dir": str(folder / "run")}


if __name__ == "__main__":
    clock.main(
        "benchmarks.speed.ours",
        __doc__,
        {
            "training": training,
            "whole_run": whole_run,
            "latency": latency,
            "group": group,
            "matching": matching,
            "losses_share": losses_share,
            "step": step,
            "matrix_rate": matrix_rate,
            "pipeline": pipeline,
            "backbone_share": backbone_share,
        },
    )
