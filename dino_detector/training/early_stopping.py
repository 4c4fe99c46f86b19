"""Early stopping: end a run whose AP no longer rises."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from dino_detector.config import TrainingConfig
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.training.run_data import SplitData
from dino_detector.training.run_files import RunFiles

log = logging.getLogger(__name__)


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping on the AP of the validation images."""

    state_key = "early_stopping"
    """key of the state in a checkpoint; Lightning's own key has settings in it, and a resumed run may change them"""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count of the resumed run, with the patience of this run."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the best AP of the resumed run if that run had no early stopping."""
        (files,) = (callback for callback in trainer.callbacks if isinstance(callback, RunFiles))
        if self.best_score.isinf() and files.best_epoch:
            self.best_score = torch.tensor(files.best_ap)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log why the run ended before its last epoch."""
        epoch, epochs = trainer.current_epoch, trainer.max_epochs
        if not trainer.should_stop or epoch >= epochs or not trainer.is_global_zero:
            return
        text = "stopped early after epoch %d of %d: no AP above %.3f in the last %d evaluations"
        log.info(text, epoch, epochs, self.best_score.item() + self.min_delta, self.wait_count)
        group = trainer.optimizers[0].param_groups[0]
        share = group["lr"] / group["initial_lr"]
        if share > 0.1:  # it has not yet fallen
            text = "the learning rate was still at %.0f %% of its peak; it falls in a run with --epochs %d"
            log.warning(text, 100 * share, epoch)


def build_early_stopping(training: TrainingConfig, val: SplitData | None) -> EarlyStopping | None:
    """Build early stopping from the settings; None if it is off. Raise `InputError` if the run has no AP to watch."""
    patience, epochs, frequency = training.early_stopping_patience, training.epochs, training.val_frequency
    if not patience:
        return None
    needs_ap = "early_stopping_patience needs the AP of validation images"
    if val is None:
        raise InputError(f"{needs_ap}; give --val_images and --val_annotations, or leave it out")
    if not len(val.annotations.training.labels):
        raise InputError(f"{needs_ap}, but {val.annotations.path} has no boxes; annotate some, or leave it out")
    evaluations = math.ceil(epochs / frequency)
    if patience >= evaluations:
        length = f"{counted(evaluations, 'evaluation')} in {counted(epochs, 'epoch')}"
        text = "--early_stopping_patience %d never stops this run, which has %s; lower it, or --val_frequency %d"
        log.warning(text, patience, length, frequency)
    min_delta = training.early_stopping_min_delta
    return EarlyStopping("val/AP", min_delta, patience, mode="max", check_on_train_epoch_end=False)


def evaluations_without_gain(checkpoint: dict[str, Any]) -> int:
    """Return the number of evaluations in a row without a better AP; 0 for a run without early stopping."""
    return checkpoint["callbacks"].get(EarlyStopping.state_key, {"wait_count": 0})["wait_count"]
