"""Description of a run: its settings, its model, and its row in TensorBoard's HPARAMS tab."""

from __future__ import annotations

import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.model_summary import ModelSummary
from torch.utils.tensorboard.summary import hparams

from dino_detector.config import Config
from dino_detector.training.logging.loggers import log_text

SUMMARY_DEPTH = 3
COMPARED = ("val/AP", "val/AP50", "val/AP75")
"""Tags whose newest value the HPARAMS tab shows beside the settings."""


class RunDescription(Callback):
    """Log the resolved settings and a summary of the model as texts, and the settings as hyper-parameters."""

    def __init__(self, config: Config) -> None:
        self.settings = config.flat()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the description before training, so that a run that fails has one too."""
        if not trainer.is_global_zero:
            return
        log_text(trainer.loggers, "settings", yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True))
        log_text(trainer.loggers, "model", str(ModelSummary(pl_module, max_depth=SUMMARY_DEPTH)))
        for logger in trainer.loggers:
            logger.log_hyperparams(self.settings)
        experiment, started, _ = self._hyper_parameters(trainer)
        _add(trainer, experiment, started)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the run as finished in the HPARAMS tab."""
        if trainer.is_global_zero:
            _add(trainer, self._hyper_parameters(trainer)[2])

    def _hyper_parameters(self, trainer: Trainer) -> tuple:
        plain = {name: value if isinstance(value, int | float) else str(value) for name, value in self.settings.items()}
        evaluated = trainer.datamodule.run_data.val is not None
        return hparams(plain, dict.fromkeys(COMPARED if evaluated else ("train/loss",), 0.0))


def _add(trainer: Trainer, *summaries: object) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for summary in summaries:
                logger.experiment.file_writer.add_summary(summary)
