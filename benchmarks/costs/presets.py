"""Measure each preset with its default backbone at 518 pixels: parameters, checkpoint, speed and memory.

    python -m benchmarks.costs.presets

Trains each preset for a few steps on the demo data set, then predicts image by image. Backbones have random weights,
which cost the same as pretrained ones. Each preset runs in its own process, so the peak memory is its own. Takes about
six minutes on two CPU cores.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import torch
from transformers.utils import logging as transformers_logging

from benchmarks.common.command_line import command_parser
from benchmarks.common.machine import processor_name, revision
from benchmarks.speed.clock import Clock
from benchmarks.speed.ours import StepClock
from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config import Config
from dino_detector.data.demo_set import write_demo_set
from dino_detector.inference.detector import Detector
from dino_detector.models.dinov2_base import random_architecture, untrained
from dino_detector.training.fit import fit
from dino_detector.training.memory import peak_memory

PRESETS = {"standard": [], "--lightweight": ["--lightweight"]}
"""command line flags by name"""
BATCH = 4
STEPS = 12
IMAGES = 12
WARM_UP = 2
"""number of training steps, and of predicted images, before the timed ones"""


def main() -> None:
    """Print the table."""
    command_parser("benchmarks.costs.presets", __doc__).parse_args()
    print(
        "| preset | backbone | trains | checkpoint of a run | from Detector.save | training images/s "
        "| memory in training | one image |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for line in pool.map(row, PRESETS):
            print(line, flush=True)
    print(f"\n{processor_name()}, {torch.get_num_threads()} threads, dinov2-od {revision()}")


def row(preset: str) -> str:
    """Train and predict with a preset; return its row of the table."""
    configure_logging()
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_demo_set(folder / "sample")
        published, _ = parse_settings([Config], PRESETS[preset], prog="presets")
        backbone = published.backbone.dino_model
        untrained(random_architecture(backbone, {}).to_dict()).save_pretrained(folder / "backbone")
        config = published.replace(
            train_images=files.train_images,
            train_annotations=files.train_annotations,
            dino_model=str(folder / "backbone"),
            output_dir=folder / "run",
            batch_size=BATCH,
            epochs=1,
            num_workers=0,
            logger=[],
        )
        clock = Clock(warm_up=WARM_UP, steps=STEPS)
        fit(config, callbacks=[StepClock(clock)])
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
        f"| {preset} | {backbone} | {trained / 1e6:.1f} M | {of_run:.1f} MB | {saved:.1f} MB | "
        f"{BATCH / clock.seconds:.2f} | {training_memory:.1f} GiB | {median(seconds[WARM_UP:]):.2f} s |"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
