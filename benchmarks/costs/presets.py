"""What each preset costs, with its own backbone at 518 pixels: parameters, checkpoint, speed and memory.

    python -m benchmarks.costs.presets

Trains each preset for some steps on the embedded sample, with random weights in the place of the pretrained ones, which
cost the same, and predicts image by image. Each runs in a process of its own, so that memory is its own. Takes about
six minutes on two CPU cores.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from benchmarks.common.machine import processor_name, revision
from dino_detector.commands.arguments import parse_config
from dino_detector.commands.frame import configure_logging
from dino_detector.data.demo_set import write_sample
from dino_detector.inference.detector import Detector
from dino_detector.models.dinov2_base import random_architecture, untrained
from dino_detector.training.fit import fit
from dino_detector.training.memory import peak_memory

PRESETS = {"standard": [], "--lightweight": ["--lightweight"]}
BATCH = 4
STEPS = 12
WARM_UP = 2
"""steps, and images that are predicted, before time is taken"""
IMAGES = 12


class StepClock(Callback):
    """The time of each training step, from the end of one to the end of the next, in seconds."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        """After the step."""
        self.ends.append(time.perf_counter())
        trainer.should_stop = len(self.ends) > STEPS + WARM_UP

    @property
    def seconds(self) -> float:
        """The median, without the warm-up."""
        ends = self.ends[WARM_UP:]
        return median(after - before for before, after in pairwise(ends))


def base_of(name: str) -> PreTrainedModel:
    """A DINOv2 of the architecture that a published name has, with random weights."""
    return untrained(random_architecture(name, {}).to_dict())


def row(preset: str) -> str:
    """Train and predict with a preset; a row of the table."""
    configure_logging()
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_sample(folder / "sample")
        named = parse_config(PRESETS[preset], prog="presets", description="").config
        base_of(named.backbone.dino_model).save_pretrained(folder / "base")
        config = named.replace(
            **{"train_images": files.train_images, "train_annotations": files.train_annotations},
            **{"dino_model": str(folder / "base"), "output_dir": folder / "run", "batch_size": BATCH},
            **{"epochs": 1, "num_workers": 0, "logger": []},
        )
        clock = StepClock()
        fit(config, callbacks=[clock])
        training_memory = peak_memory(torch.device("cpu"))["peak_memory_bytes"] / 2**30
        final = folder / "run" / "dino_detector_final.pth"
        detector = Detector.load(final)
        detector.save(folder / "detector.pth")
        of_run, saved = (path.stat().st_size / 1e6 for path in (final, folder / "detector.pth"))
        seconds = []
        for image in sorted(files.val_images.iterdir())[: WARM_UP + IMAGES]:
            before = time.perf_counter()
            detector.predict(image)
            seconds.append(time.perf_counter() - before)
        trained = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    return (
        f"| {preset} | {named.backbone.dino_model} | {trained / 1e6:.1f} M | {of_run:.1f} MB | {saved:.1f} MB | "
        f"{BATCH / clock.seconds:.2f} | {training_memory:.1f} GiB | {median(seconds[WARM_UP:]):.2f} s |"
    )


def main() -> None:
    """Print the table."""
    print(
        "| preset | backbone | trains | checkpoint of a run | from Detector.save | training images/s "
        "| memory in training | one image |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for preset in PRESETS:
        subprocess.run([sys.executable, "-m", "benchmarks.costs.presets", preset], check=True)
    print(f"\n{processor_name()}, {torch.get_num_threads()} threads, dinov2-od {revision()}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(row(sys.argv[1]), flush=True)
    else:
        main()
