"""Pace of a run: seconds of a training batch and of an evaluation, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

WARM_UP = 3
"""first batches of a run that are not measured: workers start, memory is allocated, kernels are chosen"""


class Pace(Callback):
    """Measure the seconds of a training batch, with loading, and of an evaluation.

    Each epoch counts twice as much as the epoch before it, because a trunk cache makes later epochs faster.

    Attributes:
        batches: weighted number of measured batches.
        evaluation_seconds: seconds of the newest evaluation, or an estimate before the first; None if unknown.
    """

    def __init__(self) -> None:
        self.batches = 0.0
        self.evaluation_seconds: float | None = None
        self._seconds = 0.0
        self._warm = 0
        self._clock = self._evaluation_started = time.monotonic()

    @property
    def seconds_per_batch(self) -> float | None:
        """Mean seconds of a batch; None before the first measured batch."""
        return self._seconds / self.batches if self.batches else None

    def seconds_left(self, trainer: Trainer, *, batches_done: int) -> tuple[float, float] | None:
        """Return the seconds left of the training epoch, and of the run with its evaluations; None if unknown.

        ``batches_done`` counts the finished batches of the current epoch.
        """
        if self.seconds_per_batch is None:
            return None
        epoch, epochs, batches = trainer.current_epoch + 1, trainer.max_epochs, int(trainer.num_training_batches)
        of_epoch = (batches - batches_done) * self.seconds_per_batch
        evaluations = len(evaluated_epochs(trainer, range(epoch + (batches_done >= batches), epochs + 1)))
        rest = (epochs - epoch) * batches * self.seconds_per_batch + evaluations * (self.evaluation_seconds or 0.0)
        return of_epoch, of_epoch + rest

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the first batch, and halve the weight of earlier epochs."""
        self._seconds, self.batches = self._seconds / 2, self.batches / 2
        self._clock = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Add the batch."""
        now = time.monotonic()
        self._warm += 1
        if self._warm > WARM_UP:
            self._seconds, self.batches = self._seconds + now - self._clock, self.batches + 1
        self._clock = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the evaluation."""
        self._evaluation_started = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the seconds of the evaluation."""
        self.evaluation_seconds = time.monotonic() - self._evaluation_started


def evaluated_epochs(trainer: Trainer, epochs: Sequence[int]) -> list[int]:
    """Return the epochs after which the run evaluates, counted from 1; the last epoch of the run is one of them."""
    if trainer.datamodule.run_data.val is None:
        return []
    last, every = trainer.max_epochs, trainer.datamodule.config.training.val_frequency
    return [epoch for epoch in epochs if epoch % every == 0 or epoch == last]
