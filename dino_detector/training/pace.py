"""Pace of a run: seconds of a training batch and of an evaluation, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

WARM_UP = 3
"""first batches of a run that are not measured: workers start, memory is allocated, kernels are chosen"""


class Pace(Callback):
    """Measure the seconds of a training batch, with loading, and of an evaluation.

    Each epoch counts twice as much as the epoch before it, because a trunk cache makes later epochs faster.

    Attributes:
        newest: seconds of the newest batch; None in the warm-up.
        evaluation_seconds: seconds of the newest evaluation, or an estimate before the first; None if unknown.
    """

    def __init__(self) -> None:
        self.newest: float | None = None
        self.evaluation_seconds: float | None = None
        self._batches = self._seconds = self._paused = 0.0
        self._warm = self._evaluated = 0
        self._is_measured = False
        self._clock = self._evaluation_started = self.now()

    def now(self) -> float:
        """Return the seconds of a clock that stands still in `paused`."""
        return time.monotonic() - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for work that is no part of training, so that no speed includes it."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - started

    def expect_evaluation(self, seconds: float) -> None:
        """Take an estimate of an evaluation until the first is measured."""
        if not self._is_measured:
            self.evaluation_seconds = seconds

    @property
    def seconds_per_batch(self) -> float | None:
        """Mean seconds of a batch; None before the first measured batch."""
        return self._seconds / self._batches if self._batches else None

    def seconds_left(self, trainer: Trainer, *, batches_done: int) -> tuple[float, float] | None:
        """Return the seconds left of the training epoch, and of the run with its evaluations; None if unknown.

        ``batches_done`` counts the finished batches of the current epoch. The evaluation of that epoch counts until it
        ends.
        """
        if self.seconds_per_batch is None:
            return None
        epoch, epochs, batches = trainer.current_epoch + 1, trainer.max_epochs, int(trainer.num_training_batches)
        of_epoch = (batches - batches_done) * self.seconds_per_batch
        coming = range(epoch + (self._evaluated == epoch), epochs + 1)
        evaluations = sum(is_evaluated(trainer, each) for each in coming)
        rest = (epochs - epoch) * batches * self.seconds_per_batch + evaluations * (self.evaluation_seconds or 0.0)
        return of_epoch, of_epoch + rest

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the first batch, and halve the weight of earlier epochs."""
        self._seconds, self._batches = self._seconds / 2, self._batches / 2
        self._clock = self.now()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Add the batch."""
        now = self.now()
        self._warm += 1
        if self._warm > WARM_UP:
            self.newest = now - self._clock
            self._seconds, self._batches = self._seconds + self.newest, self._batches + 1
        self._clock = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the evaluation."""
        self._evaluation_started = self.now()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the seconds of the evaluation."""
        self.evaluation_seconds = self.now() - self._evaluation_started
        self._evaluated, self._is_measured = trainer.current_epoch + 1, True


def is_due(trainer: Trainer, epoch: int) -> bool:
    """Return whether an epoch, counted from 1, is one of every ``val_frequency`` epochs or the last of the run."""
    return epoch % trainer.check_val_every_n_epoch == 0 or epoch == trainer.max_epochs


def is_evaluated(trainer: Trainer, epoch: int) -> bool:
    """Return whether the run evaluates after an epoch, counted from 1: the epoch is due, and there are images."""
    return trainer.datamodule.run_data.val is not None and is_due(trainer, epoch)
