"""The files of a run: the checkpoints and metrics of an epoch appear together or not at all."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dino_detector.errors import StoppedByUser
from dino_detector.models.checkpoint import require_finite
from dino_detector.storage.file_set import FileSet
from dino_detector.training.memory import peak_memory
from dino_detector.validate import EvaluationFiles

log = logging.getLogger(__name__)

LAST, BEST, FINAL = (f"dino_detector_{kind}.pth" for kind in ("last", "best", "final"))


def epoch_name(epoch: int) -> str:
    """Return the file name of the checkpoint of an evaluated epoch, counted from 1."""
    return f"dino_detector_epoch_{epoch}.pth"


def finished_epochs(contents: dict[str, Any]) -> int:
    """Return the number of epochs that a run had finished when it wrote a checkpoint with training state."""
    return contents["callbacks"][RunFiles.__name__]["finished_epochs"]


class RunFiles(Checkpoint):
    """Writes checkpoints and metrics.

    - Every epoch writes ``dino_detector_last.pth``.
    - An evaluated epoch N, counted from 1, adds ``dino_detector_epoch_N.pth``, ``val_metrics_epoch_N.json`` and
      ``val_predictions_epoch_N.json``. Without validation images it adds the checkpoint alone.
    - An epoch whose AP is higher than in all earlier epochs adds ``dino_detector_best.pth``.
    - The last epoch, also after early stopping, adds ``dino_detector_final.pth``.

    The files of an epoch are one `FileSet`: a program that is killed leaves all of them or none. Checkpoints hold the
    full training state.

    The first Ctrl-C or SIGTERM finishes the optimizer step, or the evaluation at the end of an epoch, writes the last
    checkpoint and raises `StoppedByUser`. The second stops at once.

    Args:
        output_dir: folder for the files; it exists.
        keep_epochs: keep the checkpoint and the detections of every evaluated epoch; False keeps the newest alone.

    Attributes:
        finished_epochs: epochs since the run began, before resumptions too.
        best_ap: highest AP since the run began, before resumptions too; minus infinity before the first AP.
        best_epoch: first epoch with ``best_ap``, counted from 1; 0 before the first AP.
    """

    def __init__(self, output_dir: Path, *, keep_epochs: bool = True) -> None:
        self.output_dir = output_dir
        self.keep_epochs = keep_epochs
        self.finished_epochs = 0
        self.best_ap = float("-inf")
        self.best_epoch = 0
        self.images_seen = 0
        self.seconds_before = 0.0
        self.training_seconds = 0.0
        self._started = 0.0
        self._resumed_at = 0.0
        self._stop: int | None = None  # the signal that asked to stop
        self._replaced: int | None = None  # epoch whose files the next evaluated epoch removes

    @property
    def best(self) -> Path | None:
        """The checkpoint with the highest AP; None where it is in the folder of the run that this one resumed."""
        candidates = (self.output_dir / name for name in (BEST, epoch_name(self.best_epoch)))
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
        epoch_file = self.output_dir / epoch_name(self.best_epoch)
        if trainer.is_global_zero and not (self.output_dir / BEST).exists() and epoch_file.exists():
            # An earlier run went further, and its best checkpoint was moved aside: link the best epoch of this run.
            with FileSet(self.output_dir, first=BEST) as files:
                files.link(BEST, epoch_file)
        self._begin_epoch(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the epoch; Lightning skips this hook for an epoch that is resumed in its middle."""
        self._begin_epoch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the images."""
        self.images_seen += len(batch.image_ids) * trainer.world_size

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after an optimizer step if asked to: then the weights match the position of the loader.

        Raises:
            StoppedByUser: the run was asked to stop, and its last checkpoint is written.
            FloatingPointError: weights or moments are not finite at a stop or at the end of an epoch; neither is
                evaluated or written.
        """
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        stops = between_steps and not trainer.is_last_batch and self._all_stop(trainer, batch_idx)
        if stops or trainer.is_last_batch:
            weights = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
            require_finite([weights, *(optimizer.state for optimizer in trainer.optimizers)])
        if stops:
            self._pause()
            with self._written(trainer):
                pass
            self._leave()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of `training_seconds`: evaluation is not training."""
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of `training_seconds` again."""
        self._resumed_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's files, and stop if asked to while epochs are left."""
        self._pause()
        epoch = self.finished_epochs = trainer.current_epoch + 1
        due = epoch % trainer.check_val_every_n_epoch == 0
        metrics = pl_module.metrics if due else None
        is_best = metrics is not None and self._is_best(metrics.AP, epoch)
        done = trainer.should_stop or epoch == trainer.max_epochs
        copies = [name for name, wanted in ((epoch_name(epoch), due), (BEST, is_best), (FINAL, done)) if wanted]
        obsolete = self._obsolete_files(epoch) if due else []
        with self._written(trainer, copies) as files:
            if files is not None:
                files.remove(*obsolete)
                if metrics is not None:
                    self._write_evaluation(trainer, pl_module, files, epoch)
        if not done and self._all_stop(trainer):
            self._leave()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts that a resumed run continues."""
        return {
            "finished_epochs": self.finished_epochs,
            "best_ap": self.best_ap,
            "best_epoch": self.best_epoch,
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "replaced": self._replaced,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the counts of the resumed run."""
        self.finished_epochs = state_dict["finished_epochs"]
        self.best_ap = state_dict["best_ap"]
        self.best_epoch = state_dict["best_epoch"]
        self.images_seen = state_dict["images_seen"]
        self.seconds_before = state_dict["seconds"]
        self.training_seconds = state_dict["training_seconds"]
        self._replaced = state_dict["replaced"]

    def _begin_epoch(self, trainer: Trainer) -> None:
        """Start the clock, and have the trainer evaluate after the last epoch whatever the frequency."""
        self._resumed_at = time.monotonic()
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def _is_best(self, average_precision: float, epoch: int) -> bool:
        """Return whether an epoch has the highest AP so far, and remember it then; -1 is no AP."""
        if average_precision < 0 or average_precision <= self.best_ap:
            return False
        self.best_ap, self.best_epoch = average_precision, epoch
        return True

    def _obsolete_files(self, epoch: int) -> list[str]:
        """Return the files that this evaluated epoch replaces, and note that the next one may replace its own."""
        replaced = self._replaced
        if not self.keep_epochs:
            self._replaced = epoch
        if replaced in (None, epoch):
            return []
        return [epoch_name(replaced), f"val_predictions_epoch_{replaced}.json"]

    def _pause(self) -> None:
        """Stop the clock of `training_seconds`."""
        now = time.monotonic()
        self.training_seconds += now - self._resumed_at
        self._resumed_at = now

    def _request_stop(self, number: int, frame: Any) -> None:
        if self._stop is not None:
            self._leave()
        self._stop = number
        log.warning("stopping when this step or evaluation is done, with everything saved; once more stops at once")

    def _all_stop(self, trainer: Trainer, batch_idx: int | None = None) -> bool:
        """Whether a process was asked to stop; all learn it after the same step, or they would wait for each other.

        Asking the others takes a moment, so it is done where a step is logged and at the end of an epoch.
        """
        if trainer.world_size == 1:
            return self._stop is not None
        if batch_idx is not None and (batch_idx + 1) % trainer.log_every_n_steps:
            return False
        return trainer.strategy.reduce_boolean_decision(self._stop is not None, all=False)

    def _leave(self) -> None:
        last, number = self.output_dir / LAST, self._stop or signal.SIGINT
        if last.exists():
            raise StoppedByUser(f"stopped; resume with the same settings and --checkpoint {last}", number)
        raise StoppedByUser("stopped before anything was saved", number)

    @contextmanager
    def _written(self, trainer: Trainer, copies: Sequence[str] = ()) -> Iterator[FileSet | None]:
        """Write the last checkpoint and its copies, and commit them when the caller is done.

        The main process yields the `FileSet`, to which the caller may add files; other processes yield None.
        """
        files = FileSet(self.output_dir, first=LAST)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(files.path(LAST))  # every process takes part, and the main one writes
            yield None
            return
        with files:
            trainer.save_checkpoint(files.path(LAST))
            for name in copies:
                files.link(name, files.path(LAST))
            yield files

    def _write_evaluation(self, trainer: Trainer, pl_module: LightningModule, files: FileSet, epoch: int) -> None:
        """Add metrics and detections of an evaluated epoch."""
        val = trainer.datamodule.sources.val
        folder = files.path("")
        EvaluationFiles.of(folder, f"_epoch_{epoch}", images=val.folder, annotations=val.annotations.path).write(
            pl_module.metrics,
            pl_module.results,
            epoch=epoch,
            step=trainer.global_step,
            seconds=round(self.seconds, 1),
            images_seen=self.images_seen,
            precision=trainer.precision.partition("-")[0],
            images_per_second=round(self.images_seen / self.training_seconds, 1),
            **peak_memory(pl_module.device),
        )
