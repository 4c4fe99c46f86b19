"""From the start of the command to the end of its first training step: ``python -m benchmarks.speed.start train SETTINGS``."""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import psutil

from benchmarks.speed import clock
from benchmarks.speed.clock import report
from dino_detector.commands import train as command
from dino_detector.config import Config


def train(*, settings: dict[str, Any]) -> None:
    """Seconds since this process began, and the memory that one of its workers has of its own then.

    The libraries are imported by the command itself, as it does for a user.
    """
    numbers: dict[str, float | None] = {}

    def watch(config: Config) -> Any:
        """In place of the callback that writes the settings."""
        from lightning.pytorch.callbacks import LambdaCallback

        def stop(trainer: Any, *args: Any) -> None:
            numbers["seconds"] = time.time() - psutil.Process().create_time()
            workers = [child.memory_full_info().uss for child in psutil.Process().children()]
            numbers["worker_bytes"] = max(workers) if sys.platform == "linux" and workers else None
            trainer.should_stop = True

        return LambdaCallback(on_train_batch_end=stop)

    command.settings_writer = watch
    with tempfile.TemporaryDirectory() as temporary:
        flags = [f"--{name}={value}" for name, value in settings.items()]
        assert command.main([*flags, f"--output_dir={temporary}/run", "--epochs=1"]) == 0
    report(**numbers)


def imports() -> None:
    """Seconds since this process began in which it has imported no more than the libraries."""
    import lightning  # noqa: F401
    import peft  # noqa: F401
    import torchvision  # noqa: F401
    import transformers  # noqa: F401

    report(seconds=time.time() - psutil.Process().create_time())


if __name__ == "__main__":
    clock.main({"train": train, "imports": imports})
