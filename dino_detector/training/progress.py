"""Progress of training: a line for every epoch, and a bar in a terminal."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from torch import Tensor

from dino_detector.analysis.tables import number_text

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 60.0


class EpochBar(TQDMProgressBar):
    """Lightning's progress bar, with epochs counted from 1."""

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Start the bar of the epoch; Lightning's own hook would first show an epoch that counts from 0."""
        bar = self.train_progress_bar
        bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
        bar.initial = 0
        bar.reset(self.total_train_batches)


class EpochLines(Callback):
    """Log the mean loss, the AP, images per second and the time left after every epoch, and progress once a minute.

    Images per second and the time left include loading and evaluation.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting; a resumed run may start in the middle of an epoch."""
        self._begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss on its device, because reading it would wait for the device; log progress once a minute."""
        self._losses.append(outputs["loss"] * trainer.accumulate_grad_batches)  # Lightning divides by these batches
        self._images += len(batch.image_ids) * trainer.world_size
        now = time.monotonic()
        if now - self._last_line > SECONDS_BETWEEN_LINES and trainer.is_global_zero:
            self._last_line = now
            mean_loss, pace = sum(self._losses).item() / len(self._losses), self._images / (now - self._started)
            places = (trainer.current_epoch + 1, trainer.max_epochs, batch_idx + 1, trainer.num_training_batches)
            log.info("epoch %d/%d  batch %d/%d  loss %.3f  %.1f images/s", *places, mean_loss, pace)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line of the epoch, and start counting for the next epoch."""
        seconds = time.monotonic() - self._started
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs
        left = 0 if trainer.should_stop else epochs - epoch
        mean_loss = trainer.strategy.reduce(sum(self._losses) / len(self._losses), reduce_op="mean")
        parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}", f"loss {mean_loss.item():.3f}"]
        metrics = pl_module.metrics
        if metrics is not None and epoch % trainer.check_val_every_n_epoch == 0:
            parts.append(f"AP {number_text(metrics.AP)}  AP50 {number_text(metrics.AP50)}")
        parts += [f"{self._images / seconds:.1f} images/s", f"{timedelta(seconds=round(seconds * left))} left"]
        if trainer.is_global_zero:
            log.info("  ".join(parts))
        self._begin()

    def _begin(self) -> None:
        self._started = self._last_line = time.monotonic()
        self._losses: list[Tensor] = []
        self._images = 0
