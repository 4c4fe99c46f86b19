"""Measurements of an untrained RF-DETR nano, in an environment with ``rfdetr[train]``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from rfdetr import RFDETRNano
from rfdetr.models.matcher import HungarianMatcher
from rfdetr.training import RFDETRDataModule

from benchmarks.accuracy.job import Job
from benchmarks.accuracy.rf_detr import configs_of, fit, link_dataset
from benchmarks.speed import clock
from benchmarks.speed.clock import Clock, report, seconds_of
from benchmarks.speed.scenes import random_boxes

NANO: dict[str, Any] = {
    "patch_size": 16,
    "resolution": 384,
    "positional_encoding_size": 24,
    "out_feature_indexes": [3, 6, 9, 12],
}
"""the package's defaults; `benchmarks.accuracy` uses patches of 14 pixels"""


class StepClock(pl.Callback):
    """Stop the training after the timed steps."""

    def __init__(self, steps: Clock) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Time the step, after the callbacks of the optimizer and of the moving average."""
        trainer.should_stop = self.steps.tick()


def training(*, data: dict[str, str], batch: int, model: dict[str, Any], warm_up: int, steps: int) -> None:
    """Report training images per second at the nominal input size."""
    with tempfile.TemporaryDirectory() as temporary:
        job = _job(temporary, data, batch=batch, model=model)
        steps_of = Clock(warm_up=warm_up, steps=steps)
        fit(job, StepClock(steps_of))
    report(images_per_second=batch / steps_of.seconds)


def pipeline(*, data: dict[str, str], batch: int, images: int) -> None:
    """Report images per second from files to normalised batches, with training augmentation, in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        module = RFDETRDataModule(*configs_of(_job(temporary, data, batch=batch, model={})))
        module.setup("fit")
        loader = module.train_dataloader()
        began = time.perf_counter()
        seen = 0
        for _, targets in loader:
            seen += len(targets)
            if seen >= images:
                break
        seconds = time.perf_counter() - began
    report(images_per_second=seen / seconds)


def latency(*, picture: str, dtype: str) -> None:
    """Report the seconds from pixels to detections of a picture, after the package's own optimization."""
    image = Image.open(picture).convert("RGB")
    detector = RFDETRNano(pretrain_weights=None, num_classes=80, device="cpu")
    detector.inference(dtype=dtype)
    report(seconds=seconds_of(lambda: detector.predict(image)))


def matching(*, batch: int, queries: int, boxes: int) -> None:
    """Report the seconds to match one decoder layer."""
    torch.manual_seed(0)
    matcher = HungarianMatcher(cost_class=2, cost_bbox=5, cost_giou=2)
    outputs = {"pred_logits": torch.randn(batch, queries, 80), "pred_boxes": random_boxes(batch, queries)}
    targets = [{"labels": torch.randint(80, (boxes,)), "boxes": random_boxes(boxes)} for _ in range(batch)]
    report(seconds=seconds_of(lambda: matcher(outputs, targets)))


def _job(folder: str, data: dict[str, str], *, batch: int, model: dict[str, Any]) -> Job:
    """Link the data set into ``folder``, and return a job that trains at the nominal input size."""
    one_size = {"batch_size": batch, "multi_scale": False, "expanded_scales": False}
    job = Job(
        **{"system": "rf_detr", "seed": 0, "backbone": {"num_hidden_layers": 12}, "image_size": 384},
        **{"budget": 0.0, "calibration": 0.0, "evaluations": 1, "device": "cpu", "workers": 0, "folder": folder},
        **data,
        settings={"model": NANO | model, "train": one_size, "trainer": {}},
    )
    link_dataset(job, Path(folder, "data"))
    return job


if __name__ == "__main__":
    measurements = {"training": training, "latency": latency, "matching": matching, "pipeline": pipeline}
    clock.main("benchmarks.speed.rf_detr", __doc__, measurements)
