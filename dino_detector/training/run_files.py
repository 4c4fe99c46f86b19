"""Files of a training run: checkpoints and metrics of an epoch, which appear together or not at all."""

from __future__ import annotations

import _thread
import logging
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dino_detector.config import TrainingConfig
from dino_detector.errors import StoppedByUser
from dino_detector.models.checkpoint import read_checkpoint, require_finite
from dino_detector.storage.file_set import FileSet
from dino_detector.storage.output_folder import move_aside
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.structures.run_names import BEST, FINAL, HISTORY, LAST
from dino_detector.training.history import EpochHistory
from dino_detector.training.memory import peak_memory
from dino_detector.training.pace import is_due
from dino_detector.training.run_data import VAL_ANNOTATIONS

log = logging.getLogger(__name__)

STATE = ("finished_epochs", "best_ap", "best_epoch", "images_seen", "seconds", "replaced")

FILES_OF_A_RUN = (
    *("dino_detector_*.pth", "val_metrics_epoch_*.json", "val_predictions_epoch_*.json", "config.yaml"),
    *("*_indices.json", "testdev_predictions_final.json", "testdev_image_info.json"),
    *(HISTORY, VAL_ANNOTATIONS),
)


def epoch_name(epoch: int) -> str:
    """Return the name of an epoch's checkpoint; epochs count from 1."""
    return f"dino_detector_epoch_{epoch}.pth"


def finished_epochs(contents: dict[str, Any]) -> int:
    """Return the number of epochs that the run had finished; 0 for a checkpoint without training state."""
    return contents.get("callbacks", {}).get(RunFiles.__name__, {}).get("finished_epochs", 0)


def prepare_output_dir(training: TrainingConfig, *, epochs_before: int | None) -> None:
    """Move aside the files that a new run would overwrite or mix with its own.

    ``epochs_before`` is the number of finished epochs of the resumed checkpoint, and None for a new run. A run that is
    resumed in its own folder keeps its files, except for the files of later epochs.
    """
    folder, checkpoint = training.output_dir, training.checkpoint
    files = [file for name in FILES_OF_A_RUN for file in folder.glob(name)]
    if epochs_before is not None and checkpoint.resolve().parent == folder.resolve():
        epochs = {file: int(match[1]) for file in files if (match := re.search(r"_epoch_(\d+)\.", file.name))}
        later = [file for file, epoch in epochs.items() if epoch > epochs_before]
        newest = [folder / name for name in (LAST, BEST, FINAL, HISTORY) if later and (folder / name).exists()]
        files = later + [
            file
            for file in newest
            if file.resolve() != checkpoint.resolve()
            and (file.name != BEST or not 0 < finished_epochs(read_checkpoint(file)[1]) <= epochs_before)
        ]
    move_aside(files, folder)


class RunFiles(Checkpoint):
    """Write checkpoints and metrics, and stop cleanly on Ctrl-C or SIGTERM.

    - Every epoch writes ``dino_detector_last.pth``.
    - An evaluated epoch N, counted from 1, adds ``dino_detector_epoch_N.pth``, ``val_metrics_epoch_N.json`` and
      ``val_predictions_epoch_N.json``. Without validation images it adds only the checkpoint.
    - An epoch with a higher AP than all earlier epochs adds ``dino_detector_best.pth``.
    - ``history.csv`` has a record of each epoch; see `EpochHistory`.
    - The last epoch, also after early stopping, adds ``dino_detector_final.pth``.

    The files of an epoch are one `FileSet`: a killed program leaves all of them or none. Every checkpoint holds the
    full training state.

    The first signal finishes the optimizer step, or the evaluation at the end of an epoch, writes the last checkpoint
    and raises `StoppedByUser`. The second signal stops at once.

    Without ``keep_epochs``, only the newest evaluated epoch keeps its checkpoint and its detections.

    Attributes:
        finished_epochs: number of epochs since the run began, before resumptions too.
        best_ap: highest AP since the run began, before resumptions too; -1 before the first AP.
        best_epoch: first epoch with ``best_ap``, counted from 1; 0 before the first AP.
        seconds: wall time from the beginning of the run to the latest checkpoint, without interruptions.
    """

    def __init__(self, output_dir: Path, *, keep_epochs: bool) -> None:
        self.output_dir = output_dir
        self.keep_epochs = keep_epochs
        self.finished_epochs = 0
        self.best_ap = -1.0
        self.best_epoch = 0
        self.images_seen = 0
        self.seconds = 0.0
        self.replaced: int | None = None  # epoch with files that the next evaluated epoch removes
        self._stop: int | None = None  # the signal that asked to stop

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and handle signals until the trainer restores the handlers at the end."""
        self._started = time.monotonic() - self.seconds  # of the resumed run
        if threading.current_thread() is threading.main_thread():  # as Python requires
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._request_stop)
        epoch_file = self.output_dir / epoch_name(self.best_epoch)
        if trainer.is_global_zero and not (self.output_dir / BEST).exists() and epoch_file.exists():
            # The best checkpoint came from a later epoch and was moved aside: link the best epoch that is left.
            with FileSet(self.output_dir, first=BEST) as files:
                files.link(BEST, epoch_file)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the images, and make the trainer evaluate after the last epoch whatever the frequency."""
        self.images_seen += len(batch.image_ids) * trainer.world_size
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop on request, but only after an optimizer step: then the weights match the position of the loader.

        Raises:
            StoppedByUser: A signal arrived; the last checkpoint is written.
            FloatingPointError: Weights or moments are not finite; they are neither evaluated nor written.
        """
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        stops = between_steps and not trainer.is_last_batch and self._all_stop(trainer, batch_idx)
        if stops or trainer.is_last_batch:
            weights = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
            require_finite([weights, *(optimizer.state for optimizer in trainer.optimizers)])
        if stops:
            with self._written(trainer):
                pass
            self._leave()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files of the epoch, and stop on request if epochs are left."""
        epoch = self.finished_epochs = trainer.current_epoch + 1
        due = is_due(trainer, epoch)
        metrics = pl_module.metrics if due else None
        is_best = metrics is not None and self.best_ap < metrics.AP
        if is_best:
            self.best_ap, self.best_epoch = metrics.AP, epoch
        obsolete = [epoch_name(self.replaced), f"val_predictions_epoch_{self.replaced}.json"] if self.replaced else []
        if due and not self.keep_epochs:
            self.replaced = epoch
        done = trainer.should_stop or epoch == trainer.max_epochs
        copies = [name for name, wanted in ((epoch_name(epoch), due), (BEST, is_best), (FINAL, done)) if wanted]
        with self._written(trainer, copies) as files:
            histories = [callback for callback in trainer.callbacks if isinstance(callback, EpochHistory)]
            if files is not None and histories:
                files.path(HISTORY).write_text(histories[0].as_csv(), encoding="utf-8")
            if files is not None and due:
                files.remove(*obsolete)
                if metrics is not None:
                    val, ending = trainer.datamodule.run_data.val, f"_epoch_{epoch}"
                    data = {"images": val.folder, "annotations": val.annotations.path}
                    EvaluationFiles.of(files.path(""), ending, **data).write(
                        metrics,
                        pl_module.results,
                        epoch=epoch,
                        step=trainer.global_step,
                        seconds=round(self.seconds, 1),
                        images_seen=self.images_seen,
                        precision=trainer.precision.partition("-")[0],
                        **peak_memory(pl_module.device),
                    )
        if not done and self._all_stop(trainer):
            self._leave()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run continues with."""
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the state of the resumed run."""
        for name in STATE:
            setattr(self, name, state_dict[name])

    def _request_stop(self, number: int, frame: Any) -> None:
        if self._stop is not None:
            self._leave()
        self._stop = number
        text = "stopping after this step or evaluation, with everything saved; a second signal stops at once"
        # The signal may have interrupted a write to stdout, which this thread must not enter again.
        _thread.start_new_thread(log.warning, (text,))

    def _all_stop(self, trainer: Trainer, batch_idx: int | None = None) -> bool:
        """Return whether any process got a signal; all processes agree after the same step, or they would deadlock.

        The agreement takes time, so it happens at logged steps and at the end of an epoch only.
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
        """Write the last checkpoint and its copies, and commit them when the context ends.

        Yield the `FileSet` on the main process, for further files, and None on the others.
        """
        self.seconds = time.monotonic() - self._started
        files = FileSet(self.output_dir, first=LAST)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(files.path(LAST))  # a collective call; the main process writes
            yield None
            return
        with files:
            trainer.save_checkpoint(files.path(LAST))
            for name in copies:
                files.link(name, files.path(LAST))
            yield files
