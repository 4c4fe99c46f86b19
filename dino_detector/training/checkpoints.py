"""Which files a run leaves behind: checkpoints and metrics, complete or absent at any moment."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dino_detector.errors import StoppedByUser
from dino_detector.training.memory import peak_memory
from dino_detector.training.moments import round_moments, with_small_moments
from dino_detector.validate import EvaluationFiles

log = logging.getLogger(__name__)

LAST, BEST, FINAL = (f"dino_detector_{kind}.pth" for kind in ("last", "best", "final"))


def finished_epochs(contents: dict[str, Any]) -> int:
    """How many epochs the run had finished that wrote these contents of a checkpoint with training state."""
    return contents["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


class RunFiles(Checkpoint):
    """Writes checkpoints and metrics.

    After each epoch ``dino_detector_last.pth``; where the epoch was evaluated also ``dino_detector_epoch_N.pth``,
    ``val_metrics_epoch_N.json`` and ``val_predictions_epoch_N.json``, N counted from 1, and ``dino_detector_best.pth``
    if there is an AP and none was higher; at the end, early or not, ``dino_detector_final.pth``, which is then the
    last. All hold the full training state, the optimizer's moments as `moments` says. On the first Ctrl-C or SIGTERM
    the optimizer step is finished, at the end of an epoch its evaluation too, the last checkpoint written, and
    `StoppedByUser` raised; the second stops at once.

    Epochs that would be evaluated get their checkpoint also where there are no validation images; no best one then.

    Args:
        output_dir: where files go.
        keep_epochs: whether checkpoint and detections of each epoch stay, or the newest alone.

    Attributes:
        best_ap: highest AP of the run so far, of the parts that it resumes too; minus infinity before there is one.
        best_epoch: the first epoch that had it, counted from 1; 0 before there is one.
    """

    def __init__(self, output_dir: Path, *, keep_epochs: bool = True) -> None:
        self.output_dir = output_dir
        self.keep_epochs = keep_epochs
        self.best_ap = float("-inf")
        self.best_epoch = 0
        self.images_seen = 0
        self.seconds_before = 0.0
        self.training_seconds = 0.0
        self._started = 0.0
        self._resumed_at = 0.0
        self._stop = False
        self._newest: int | None = None  # epoch whose checkpoint this process wrote

    @property
    def best(self) -> Path | None:
        """The checkpoint with the highest AP; None where it is in the folder of the run that this one resumed."""
        candidates = (self.output_dir / name for name in (BEST, f"dino_detector_epoch_{self.best_epoch}.pth"))
        return next((path for path in candidates if path.exists()), None) if self.best_epoch else None

    @property
    def seconds(self) -> float:
        """Wall time since the run began, evaluation included, interruptions not."""
        return self.seconds_before + time.monotonic() - self._started

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over interruptions where Python allows it; the trainer gives them back when it is done."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._request_stop)
        epoch_file = f"dino_detector_epoch_{self.best_epoch}.pth"
        if trainer.is_global_zero and not (self.output_dir / BEST).exists() and (self.output_dir / epoch_file).exists():
            self._copy(BEST, of=epoch_file)  # that of a run which had gone further was moved aside
        self._begin_epoch(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Not called for an epoch that is resumed in its middle."""
        self._begin_epoch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the images."""
        self.images_seen += len(batch.image_ids) * trainer.world_size

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if asked to: gradients are applied and the loader's position is that of the weights."""
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if between_steps and not trainer.is_last_batch and self._all_stop(trainer, batch_idx):
            self._pause()
            self._write(trainer, LAST)
            self._leave()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation is not training time."""
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self._resumed_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's files, and stop if asked to while there is something left to do."""
        self._pause()
        epoch = trainer.current_epoch + 1
        due = epoch % trainer.check_val_every_n_epoch == 0
        metrics = pl_module.metrics if due else None
        average_precision = float("-inf") if metrics is None else metrics.AP
        is_best = average_precision >= 0 and average_precision > self.best_ap  # it is -1 where there are no boxes
        if is_best:
            self.best_ap, self.best_epoch = average_precision, epoch
        for optimizer in trainer.optimizers:
            round_moments(optimizer)
        self._write(trainer, LAST)
        if due and trainer.is_global_zero:
            self._write_epoch(epoch)
            if is_best:
                self._copy(BEST)
            if metrics is not None:
                val = trainer.datamodule.sources.val
                files = EvaluationFiles.of(
                    self.output_dir, f"_epoch_{epoch}", images=val.folder, annotations=val.annotations.path
                )
                files.write(
                    metrics,
                    pl_module.results,
                    epoch=epoch,
                    step=trainer.global_step,
                    seconds=round(self.seconds, 1),
                    images_seen=self.images_seen,
                    precision=trainer.precision.partition("-")[0],
                    images_per_second=round(self.images_seen / self.training_seconds, 1),
                    **peak_memory(pl_module.device),
                )
        done = trainer.should_stop or epoch == trainer.max_epochs
        if not done and self._all_stop(trainer):
            self._leave()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The state after the last epoch is the final one."""
        if trainer.is_global_zero:
            self._copy(FINAL)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the optimizer's moments in half the space where that is exact."""
        checkpoint["optimizer_states"] = [with_small_moments(state) for state in checkpoint["optimizer_states"]]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on counting."""
        return {
            "best_ap": self.best_ap,
            "best_epoch": self.best_epoch,
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.best_ap = state_dict["best_ap"]
        self.best_epoch = state_dict.get("best_epoch", 0)  # not in the first checkpoints of 0.1.0
        self.images_seen = state_dict["images_seen"]
        self.seconds_before = state_dict["seconds"]
        self.training_seconds = state_dict["training_seconds"]

    def _begin_epoch(self, trainer: Trainer) -> None:
        """Evaluate after the last epoch whatever the frequency; the trainer asks at the end of the epoch."""
        self._resumed_at = time.monotonic()
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def _pause(self) -> None:
        now = time.monotonic()
        self.training_seconds += now - self._resumed_at
        self._resumed_at = now

    def _request_stop(self, number: int, frame: Any) -> None:
        if self._stop:
            self._leave()
        self._stop = True
        log.warning("stopping when this step or evaluation is done, with everything saved; once more stops at once")

    def _all_stop(self, trainer: Trainer, batch_idx: int | None = None) -> bool:
        """Whether a process was asked to stop; all learn it after the same step, or they would wait for each other.

        Asking the others takes a moment, so it is done where a step is logged and at the end of an epoch.
        """
        if trainer.world_size == 1:
            return self._stop
        if batch_idx is not None and (batch_idx + 1) % trainer.log_every_n_steps:
            return False
        return trainer.strategy.reduce_boolean_decision(self._stop, all=False)

    def _leave(self) -> None:
        last = self.output_dir / LAST
        if last.exists():
            raise StoppedByUser(f"stopped; resume with the same settings and --checkpoint {last}")
        raise StoppedByUser("stopped before anything was saved")

    def _write(self, trainer: Trainer, name: str) -> None:
        beside = self.output_dir / f".{name}.tmp"
        trainer.save_checkpoint(beside)
        if trainer.is_global_zero:
            beside.replace(self.output_dir / name)

    def _write_epoch(self, epoch: int) -> None:
        self._copy(f"dino_detector_epoch_{epoch}.pth")
        if self._newest and not self.keep_epochs:
            for name in (f"dino_detector_epoch_{self._newest}.pth", f"val_predictions_epoch_{self._newest}.json"):
                (self.output_dir / name).unlink(missing_ok=True)
        self._newest = epoch

    def _copy(self, name: str, *, of: str = LAST) -> None:
        """Give a checkpoint another name, as a hard link where the file system has them."""
        beside = self.output_dir / f".{name}.tmp"
        beside.unlink(missing_ok=True)
        try:
            os.link(self.output_dir / of, beside)
        except OSError:
            shutil.copyfile(self.output_dir / of, beside)
        beside.replace(self.output_dir / name)
