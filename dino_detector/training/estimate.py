"""Estimate of the time and memory of a whole run, told once after some measured steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from dino_detector.config import LIGHTWEIGHT, Config
from dino_detector.data.dataset import SampleKey
from dino_detector.data.loading import Batch
from dino_detector.inference.detector import Detector, build_detector
from dino_detector.plain_text import counted
from dino_detector.training.memory import GIB, is_out_of_memory, peak_memory
from dino_detector.training.pace import Pace, is_evaluated

log = logging.getLogger(__name__)

LEAST_BATCHES = 10
LEAST_SECONDS = 5.0
"""measured batches and their seconds before the estimate is told"""
LONG_RUN = 300.0
"""seconds of a run from which a few steps of the lightweight network are measured too"""
LOADED = 4
"""images whose loading is timed for the lightweight network"""


class RunEstimate(Callback):
    """Log once how long the whole run takes, and its peak of memory so far.

    The time is the measured mean of the training batches, and for each evaluation the seconds of the newest, or before
    the first the images times the measured seconds of a forward pass. It counts from the start of training in this
    process. Batches of short epochs add up until enough are measured. With a trunk cache, images that an earlier epoch
    has shown do without the measured time of the trunk. The time of ``--lightweight`` is measured on the current batch
    with an untrained network of the preset, which needs no download. It is left out with a trunk cache, in short runs,
    and where the memory is too small. Settings that differ from the defaults count as given and win over the preset, as
    on the command line.
    """

    def __init__(self, config: Config, pace: Pace, *, precision: str) -> None:
        self.config = config
        self.pace = pace
        self.precision = precision
        self._told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the run."""
        self._started, self._first_epoch = self.pace.now(), trainer.current_epoch + 1
        self._batches = self._measured = self._images = 0
        self._seconds = self._lacking = self._shown = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Halve the weight of the cache's earlier epochs, as `Pace` does with their seconds."""
        self._lacking, self._shown = self._lacking / 2, self._shown / 2

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Tell the estimate as soon as enough batches are measured."""
        self._batches += 1
        if self.pace.newest is None:  # the warm-up, in which the workers start
            self._waited = trainer.train_dataloader.seconds_waited
            return
        self._lacking, self._shown = self._lacking + len(batch.shown), self._shown + len(batch.image_ids)
        self._images += len(batch.image_ids)
        self._measured, self._seconds = self._measured + 1, self._seconds + self.pace.newest
        if self._told or self._measured < LEAST_BATCHES or self._seconds < LEAST_SECONDS:
            return
        self._told = True
        if trainer.is_global_zero:
            with self.pace.paused():
                self._tell(trainer, pl_module, batch, batch_idx + 1)

    def _tell(self, trainer: Trainer, pl_module: Any, batch: Batch, batches_done: int) -> None:
        elapsed = self.pace.now() - self._started  # before the measurements below
        epoch, epochs, first = trainer.current_epoch + 1, trainer.max_epochs, self._first_epoch
        batches_left = (epochs - epoch + 1) * int(trainer.num_training_batches) - batches_done
        peaks = peak_memory(pl_module.device)  # before the measurements below add to it
        forward = forward_seconds(pl_module.detector, batch, trainer)
        waited = (trainer.train_dataloader.seconds_waited - self._waited) / self._images
        val = trainer.datamodule.run_data.val
        val_images = 0 if val is None else len(val.annotations.images) / trainer.world_size
        self.pace.expect_evaluation(val_images * (forward + waited))
        evaluations = [each for each in range(first, epochs + 1) if is_evaluated(trainer, each)]
        left = batches_left * self.pace.seconds_per_batch - self._saved_by_cache(trainer, pl_module, batch)
        left += sum(each >= epoch for each in evaluations) * self.pace.evaluation_seconds
        total = elapsed + left
        parts = [f"{about(total)} for {counted(epochs - first + 1, 'epoch')}"]
        if evaluations:
            parts[0] += f" with {counted(len(evaluations), 'evaluation')}"
        kind = "of GPU memory" if "peak_gpu_memory_bytes" in peaks else "of memory"
        parts += [f"{size / GIB:.1f} GiB {kind}" for size in [*peaks.values()][-1:]]
        text = f"the run takes {', '.join(parts)}"
        light = None if total < LONG_RUN else self._lightweight(trainer, pl_module, batch)
        if light is not None:
            step, light_forward = light
            seconds = (self._batches + batches_left) * step
            seconds += len(evaluations) * val_images * (light_forward + waited)
            if seconds < total:
                text += f"; --lightweight {about(seconds)}"
        log.info(text)

    def _saved_by_cache(self, trainer: Trainer, pl_module: Any, batch: Batch) -> float:
        """Return the seconds that a trunk cache saves in the epochs to come."""
        caching = trainer.datamodule.caching
        if caching is None or not len(batch.pixel_values):
            return 0.0
        with torch.no_grad(), trainer.precision_plugin.train_step_context():
            trunk = timed(lambda: caching.backbone.trunk(batch.pixel_values), pl_module.device)
        lacking = trunk / len(batch.pixel_values) * trainer.datamodule.images_per_epoch / trainer.world_size
        data = trainer.datamodule.train_dataset()
        seen = data.view.seen_before(data.images, epochs=trainer.max_epochs)[trainer.current_epoch + 1 :]
        return self._lacking / self._shown * lacking * sum(seen)

    def _lightweight(self, trainer: Trainer, pl_module: Any, batch: Batch) -> tuple[float, float] | None:
        """Return the seconds of a batch, and of an image in an evaluation; None where they can't be measured."""
        config, defaults = self.config.flat(), Config().flat()
        changes = {name: value for name, value in LIGHTWEIGHT.items() if config[name] == defaults[name] != value}
        if self.config.training.lightweight or not changes or trainer.datamodule.caching is not None:
            return None
        device = pl_module.device
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                light = self.config.replace(**changes, backbone_weights="random")
                detector = build_detector(light, categories=pl_module.detector.categories)
                detector.to(device).train().optimize_training(precision=self.precision, device=device)
                step = training_seconds(detector, pl_module.criterion, batch, trainer)
                forward = forward_seconds(detector, batch, trainer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        workers = self.config.data.num_workers
        data = trainer.datamodule.train_dataset()
        started = time.monotonic()
        for index in range(min(LOADED, len(data.images))):
            data[SampleKey(trainer.current_epoch, index, image_size=self.config.data.image_size)]
        load = (time.monotonic() - started) / min(LOADED, len(data.images)) * len(batch.image_ids)
        return (max(step, load / workers) if workers else step + load), forward


def forward_seconds(detector: Detector, batch: Batch, trainer: Trainer) -> float:
    """Return the seconds of a forward pass in evaluation mode, by image; the second of two passes is timed."""
    was_training, caching = detector.training, trainer.datamodule.caching

    def predict() -> None:
        detector(batch.pixel_values) if caching is None else detector.decode(caching.tokens(batch))

    detector.eval()
    try:
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            predict()
            return timed(predict, detector.device) / len(batch.image_ids)
    finally:
        detector.train(was_training)


def training_seconds(detector: Detector, criterion: Any, batch: Batch, trainer: Trainer) -> float:
    """Return the seconds of forward pass, loss and backward pass of a batch; the first of three steps is not timed."""

    def step() -> None:
        with trainer.precision_plugin.train_step_context():
            # no mean over processes: the others do not take this step
            losses = criterion(detector(batch.pixel_values, batch.targets), batch.targets, average=lambda value: value)
        losses.total.backward()

    step()
    return (timed(step, detector.device) + timed(step, detector.device)) / 2


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of a call, with the work that it leaves to the device."""
    _wait_for(device)
    started = time.monotonic()
    function()
    _wait_for(device)
    return time.monotonic() - started


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def about(seconds: float) -> str:
    """Return a duration in round words: ``about 40 seconds``, ``about 12 minutes``, ``about 3.5 hours``."""
    if seconds < 90:
        return f"about {counted(max(1, round(seconds)), 'second')}"
    if seconds < 90 * 60:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} days"
