"""Time from the start of the command to the end of the first training step."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Set
from typing import Any

import psutil

from benchmarks.speed import clock
from benchmarks.speed.clock import report
from dino_detector.commands import train as command
from dino_detector.config import Config


def train(*, settings: dict[str, Any]) -> None:
    """Report the seconds since the start of this process, and the private memory of the largest data worker.

    The command itself imports the libraries, as it does for a user.
    """
    numbers: dict[str, float | None] = {}

    def stop(trainer: Any, *args: Any) -> None:
        numbers["seconds"] = time.time() - psutil.Process().create_time()
        workers = [child.memory_full_info().uss for child in psutil.Process().children()]
        numbers["worker_bytes"] = max(workers) if sys.platform == "linux" and workers else None
        trainer.should_stop = True

    def watched(config: Config, given: Set[str]) -> Config:
        """Take the place of the last call before `fit`: let a callback that stops replace the lines of an epoch."""
        from lightning.pytorch.callbacks import LambdaCallback

        sys.modules["dino_detector.training.fit"].EpochLines = lambda history: LambdaCallback(on_train_batch_end=stop)
        return config

    command.with_indices_file = watched
    with tempfile.TemporaryDirectory() as temporary:
        flags = [f"--{name}={value}" for name, value in settings.items()]
        assert command.main([*flags, f"--output_dir={temporary}/run", "--epochs=1"]) == 0
    report(**numbers)


def imports() -> None:
    """Report the seconds since the start of this process after importing the libraries alone."""
    import lightning  # noqa: F401
    import peft  # noqa: F401
    import torchvision  # noqa: F401
    import transformers  # noqa: F401

    report(seconds=time.time() - psutil.Process().create_time())


if __name__ == "__main__":
    clock.main("benchmarks.speed.start", __doc__, {"train": train, "imports": imports})
