"""Measure the share of logging in the training time, at the default settings.

    python -m benchmarks.costs.logging_cost

Trains the detector of ``make demo``. Its steps are short, so the share is larger than for any real detector. The first
number is the time in the logging callbacks. The second compares runs with and without loggers, in wall time and in
processor time, which other programs disturb less.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common.command_line import command_parser
from dino_detector.commands.demo import demo_config
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.data.demo_set import write_demo_set
from dino_detector.training.fit import fit
from dino_detector.training.logging.loggers import RunDescription
from dino_detector.training.logging.scalars import HistogramLog, ScalarLog

HOOKS = (
    *("on_fit_start", "on_train_start", "on_train_epoch_start", "on_before_optimizer_step", "on_train_batch_end"),
    *("on_train_epoch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_end"),
)
EPOCHS = 10
ROUNDS = 5


class Clock:
    """Total time spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with timing."""

        def timed(*args: Any, **settings: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **settings)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def main() -> None:
    """Print a line for each pair of runs, and the medians."""
    command_parser("benchmarks.costs.logging_cost", __doc__).parse_args()
    configure_logging()
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    torch.set_num_threads(2)
    clock = Clock()
    for callback in (RunDescription, ScalarLog, HistogramLog):
        for hook in HOOKS:
            if hook in vars(callback):
                setattr(callback, hook, clock.around(getattr(callback, hook)))
    shares, ratios, work_ratios = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        files = write_demo_set(Path(folder, "data"))
        for number in range(ROUNDS):
            seconds, work = {}, {}
            for logger in (["tensorboard"], []):
                config = demo_config(files, Path(folder, f"{number}{len(logger)}"))
                config = config.replace(epochs=EPOCHS, val_frequency=5, logger=logger)
                clock.seconds = 0.0
                started, worked = time.perf_counter(), time.process_time()
                fit(config)
                seconds[bool(logger)] = time.perf_counter() - started
                work[bool(logger)] = time.process_time() - worked
                if logger:
                    shares.append(clock.seconds / seconds[True])
            ratios.append(seconds[True] / seconds[False])
            work_ratios.append(work[True] / work[False])
            print(
                f"run {number + 1}: {seconds[True]:.1f} s with TensorBoard, {seconds[False]:.1f} s without; "
                f"{shares[-1]:.2%} in logging callbacks",
                flush=True,
            )
    print(
        f"median: logging takes {median(shares):.2%} of the time; with / without: {median(ratios):.3f} in wall time, "
        f"{median(work_ratios):.3f} in processor time"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
