"""What logging costs: its share of the time of a step, at the default settings.

    python -m benchmarks.costs.logging_cost

Trains the detector of ``make demo``, whose steps are short, so that the share is larger than for any real one. The time
spent in the callbacks that log is added up within the run; beside it stands the run without loggers, in turn with it,
in processor time too, which other programs on the machine disturb less.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dino_detector.commands.demo import demo_config
from dino_detector.commands.frame import configure_logging
from dino_detector.data.demo_set import write_sample
from dino_detector.training import fit as module
from dino_detector.training.logging.description import RunDescription
from dino_detector.training.logging.histograms import HistogramLog
from dino_detector.training.logging.scalars import ScalarLog

HOOKS = (
    *("on_fit_start", "on_train_start", "on_train_epoch_start", "on_before_optimizer_step", "on_train_batch_end"),
    *("on_train_epoch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_end"),
)
EPOCHS = 10
ROUNDS = 5


class Clock:
    """Adds up the time spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **settings: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **settings)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def main() -> None:
    """Print a row for each pair of runs, and the medians."""
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
        files = write_sample(Path(folder, "data"))
        for number in range(ROUNDS):
            seconds, work = {}, {}
            for logger in (["tensorboard"], []):
                config = demo_config(files, Path(folder, f"{number}{len(logger)}"))
                config = config.replace(epochs=EPOCHS, val_frequency=5, logger=logger)
                clock.seconds = 0.0
                started, worked = time.perf_counter(), time.process_time()
                module.fit(config)
                seconds[bool(logger)] = time.perf_counter() - started
                work[bool(logger)] = time.process_time() - worked
                if logger:
                    shares.append(clock.seconds / seconds[True])
            ratios.append(seconds[True] / seconds[False])
            work_ratios.append(work[True] / work[False])
            print(
                f"run {number + 1}: {seconds[True]:.1f} s with TensorBoard, {seconds[False]:.1f} s without; "
                f"in the callbacks that log {shares[-1]:.2%}",
                flush=True,
            )
    print(
        f"median: {median(shares):.2%} of the time is spent on logging; with / without {median(ratios):.3f} in time, "
        f"{median(work_ratios):.3f} in processor time"
    )


if __name__ == "__main__":
    main()
