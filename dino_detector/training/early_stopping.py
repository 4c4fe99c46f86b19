"""The end of a run whose AP no longer rises."""

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
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.sources import ImageSet

log = logging.getLogger(__name__)

KEY = "early_stopping"
"""of its state among that of all callbacks in a checkpoint"""

FALLEN = 0.1
"""share of its peak below which the learning rate of a run that stops counts as fallen"""


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping on the AP of the validation images.

    Args:
        patience: evaluations in a row without a better AP after which the run ends.
        min_delta: how much higher than the best an AP must be to count as better, in 0..1.
    """

    def __init__(self, *, patience: int, min_delta: float) -> None:
        super().__init__("val/AP", mode="max", patience=patience, min_delta=min_delta, check_on_train_epoch_end=False)

    @property
    def state_key(self) -> str:
        """The same for all settings, which a resumed run may change."""
        return KEY

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, with the patience of this run and not of the one that it resumes."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where the run that is resumed did not watch its AP, begin with the best that it had."""
        (files,) = (callback for callback in trainer.callbacks if isinstance(callback, RunFiles))
        if self.best_score.isinf() and files.best_epoch:
            self.best_score = torch.tensor(files.best_ap)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why the run has ended before its last epoch."""
        if not trainer.should_stop or trainer.current_epoch >= trainer.max_epochs or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch
        log.info(
            "stopped early after epoch %d of %d: no AP above %.3f in the last %d evaluations",
            epoch,
            trainer.max_epochs,
            self.best_score.item() + self.min_delta,
            self.wait_count,
        )
        group = trainer.optimizers[0].param_groups[0]
        share = group["lr"] / group["initial_lr"]
        if share > FALLEN:
            log.warning(
                "the learning rate was still at %.0f %% of its peak; a run with --epochs %d lets it fall",
                100 * share,
                epoch,
            )


def build_early_stopping(training: TrainingConfig, val: ImageSet | None) -> EarlyStopping | None:
    """The early stopping that a config asks for, if any.

    Raises:
        InputError: where there is no AP to watch.
    """
    if not training.early_stopping_patience:
        return None
    wanted = "early_stopping_patience watches the AP of validation images"
    if val is None:
        raise InputError(f"{wanted}; give --val_images and --val_annotations, or leave it out")
    if not len(val.annotations.training.labels):
        raise InputError(f"{wanted}, but {val.annotations.path} has no boxes; annotate some, or leave it out")
    evaluations = math.ceil(training.epochs / training.val_frequency)
    if training.early_stopping_patience >= evaluations:
        log.warning(
            "--early_stopping_patience %d stops nothing, as there will be %s in %s; lower it, or --val_frequency %d",
            *(training.early_stopping_patience, counted(evaluations, "evaluation")),
            *(counted(training.epochs, "epoch"), training.val_frequency),
        )
    return EarlyStopping(patience=training.early_stopping_patience, min_delta=training.early_stopping_min_delta)


def evaluations_without_gain(checkpoint: dict[str, Any]) -> int:
    """How many evaluations in a row the run behind a checkpoint had without a better AP, as far as it counted."""
    return checkpoint["callbacks"].get(KEY, {"wait_count": 0})["wait_count"]
