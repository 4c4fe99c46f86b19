"""Progress of training and evaluation: one live line in a terminal or notebook, and a line for every epoch."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar

from dino_detector.structures.metrics import number_text
from dino_detector.terminal import bars, in_notebook, is_live
from dino_detector.training.history import EpochHistory
from dino_detector.training.pace import is_evaluated

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_READS = 0.5
"""least time between two looks at the loss; a look waits for the device"""


def shows_live_line() -> bool:
    """Return whether stderr is a terminal that can redraw a line, or the program runs in a notebook."""
    return is_live(sys.stderr) or in_notebook()


def duration(seconds: float) -> str:
    """Return a duration as ``0:12:34``."""
    return str(timedelta(seconds=round(seconds)))


class LiveLine(ProgressBar):
    """One line that is redrawn: the epoch, the loss, images per second, and the time left of the epoch and of the run.

    An evaluation and a detection in test images have such a line too. The line vanishes when its epoch ends. Where the
    terminal is narrow, the end of the line is left out. Only the main process draws.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._enabled = True

    def disable(self) -> None:
        """Draw nothing; the trainer calls this on all processes but the main one."""
        self._enabled = False

    def enable(self) -> None:
        """Draw again."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the line of the epoch; a resumed run may begin in the middle of an epoch."""
        self._history = next(each for each in trainer.callbacks if isinstance(each, EpochHistory))
        self._read = time.monotonic()
        self._open(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", self.total_train_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraw the line a few times a second at most."""
        now, last = time.monotonic(), batch_idx + 1 == self.total_train_batches
        if self._bar is None or not (last or now - self._read >= SECONDS_BETWEEN_READS):
            return
        self._read = now
        parts = [f"loss {self._history.mean_loss:.3f}", f"{self._history.images_per_second:.1f} images/s"]
        left = self._history.pace.seconds_left(trainer, batches_done=batch_idx + 1)
        if left is not None:
            parts += [f"{duration(left[0])} left of the epoch, {duration(left[1])} of the run"]
        self._draw(batch_idx + 1, "  ".join(parts))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the line of an evaluation, in place of the line of the epoch."""
        self._begin_images("evaluating", trainer.datamodule.run_data.val, trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the images; after the last batch, say that the metrics are computed."""
        self._count_images(batch, trainer, then="computing the metrics")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the line."""
        self._close()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the line of a detection in test images."""
        self._begin_images("detecting", trainer.datamodule.run_data.test, trainer)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the images."""
        self._count_images(batch, trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the line."""
        self._close()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the line; the line of `EpochLines` stays."""
        self._close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the line."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the line, so that the error has a line of its own."""
        self._close()

    def _begin_images(self, title: str, split: Any, trainer: Trainer) -> None:
        self._images, self._total, self._started = 0, len(split.annotations.images), time.monotonic()
        self._read = self._started
        after = f" after epoch {trainer.current_epoch + 1}/{trainer.max_epochs}" if trainer.state.fn == "fit" else ""
        self._open(title + after, self._total)

    def _count_images(self, batch: Any, trainer: Trainer, then: str = "") -> None:
        self._images = min(self._total, self._images + len(batch.image_ids) * trainer.world_size)
        now, ended = time.monotonic(), self._images == self._total
        if self._bar is None or not self._images or not (ended or now - self._read >= SECONDS_BETWEEN_READS):
            return
        self._read = now
        pace = self._images / (now - self._started)
        left = f"{pace:.1f} images/s  {duration((self._total - self._images) / pace)} left"
        self._draw(self._images, then if ended and then else left)

    def _open(self, title: str, total: float) -> None:
        self._close()
        if not self._enabled:
            return
        shape: dict[str, Any] = {"dynamic_ncols": True}
        if sys.stderr.isatty() and 0 in _terminal_size():  # a pseudo-terminal may have no size: tqdm would show nothing
            shape = {"ncols": 80, "nrows": 24}
        self._title = title
        shape |= {"bar_format": "{desc} |{bar}|", "leave": False, "file": sys.stderr}
        self._bar = bars()(desc=f"{title}   0%", total=int(total), **shape)

    def _draw(self, done: int, text: str) -> None:
        self._bar.n = done
        self._bar.set_description_str(f"{self._title} {100 * done // self._bar.total:3d}%  {text}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.n = self._bar.total  # a notebook keeps an unfinished bar, in red
            self._bar.close()
            self._bar = None


def _terminal_size() -> tuple[int, int]:
    try:
        return tuple(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):
        return (0, 0)


class EvaluationLines(Callback):
    """Log the progress of an evaluation, or of a detection in test images, once a minute where no live line is."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._images, self._last_line = 0, time.monotonic()

    on_predict_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Log progress if a minute has passed."""
        self._count("evaluated", trainer.datamodule.run_data.val, batch, trainer)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Log progress if a minute has passed."""
        self._count("detected in", trainer.datamodule.run_data.test, batch, trainer)

    def _count(self, done: str, split: Any, batch: Any, trainer: Trainer) -> None:
        self._images += len(batch.image_ids) * trainer.world_size
        total, now = len(split.annotations.images), time.monotonic()
        if now - self._last_line > SECONDS_BETWEEN_LINES and trainer.is_global_zero:
            self._last_line = now
            log.info("%s %d of %d images", done, min(total, self._images), total)


class EpochLines(Callback):
    """Log the mean loss, the AP, images per second and the time left after every epoch, and progress once a minute.

    Images per second include loading and evaluation. The numbers are from ``history``, which must come before these
    lines in the list of callbacks, and the time left is from its `Pace`.
    """

    def __init__(self, history: EpochHistory) -> None:
        self.history = history

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where a resumed run continues; it may be in the middle of an epoch."""
        self._last_line = time.monotonic()
        if trainer.global_step and trainer.is_global_zero:
            log.info("the run continues with epoch %d of %d", trainer.current_epoch + 1, trainer.max_epochs)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log progress once a minute."""
        now, history = time.monotonic(), self.history
        if now - self._last_line > SECONDS_BETWEEN_LINES and trainer.is_global_zero and not shows_live_line():
            self._last_line = now
            places = (trainer.current_epoch + 1, trainer.max_epochs, batch_idx + 1, trainer.num_training_batches)
            numbers = history.mean_loss, history.images_per_second
            log.info("epoch %d/%d  batch %d/%d  loss %.3f  %.1f images/s", *places, *numbers)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line of the epoch."""
        record, epochs = self.history.records[-1], trainer.max_epochs
        parts = [f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}", f"loss {record['loss']:.3f}"]
        metrics = pl_module.metrics
        if metrics is not None and is_evaluated(trainer, record["epoch"]):
            parts.append(f"AP {number_text(metrics.AP)}  AP50 {number_text(metrics.AP50)}")
        left = self._left(trainer, record["seconds"])
        parts += [f"{record['images_per_second']:.1f} images/s", f"{duration(left)} left"]
        if trainer.is_global_zero:
            log.info("  ".join(parts))
        self._last_line = time.monotonic()

    def _left(self, trainer: Trainer, seconds: float) -> float:
        """Return the seconds left of the run; without a measured batch, as if each epoch took ``seconds``."""
        epochs = trainer.max_epochs - trainer.current_epoch - 1
        if trainer.should_stop or not epochs:
            return 0.0
        left = self.history.pace.seconds_left(trainer, batches_done=int(trainer.num_training_batches))
        return seconds * epochs if left is None else left[1]
