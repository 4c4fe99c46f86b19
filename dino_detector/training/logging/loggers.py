"""Loggers of a run, TensorBoard, CSV, Weights & Biases and MLflow, and the description that they start with."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.model_summary import ModelSummary
from numpy import ndarray
from torch.utils.tensorboard.summary import hparams

from dino_detector.config import Config
from dino_detector.config.yaml_text import as_yaml
from dino_detector.errors import InputError

COMPARED = ("val/AP", "val/AP50", "val/AP75")
"""tags whose newest value the HPARAMS tab shows beside the settings"""


def require_loggers(config: Config) -> None:
    """Raise `InputError` if a logger needs a package that is not installed."""
    for name in config.logging.logger:
        if name in ("wandb", "mlflow") and find_spec(name) is None:
            raise InputError(f"--logger {name} needs the package {name}, which is not installed: pip install {name}")


def build_loggers(config: Config) -> list[Logger]:
    """Build the loggers of a run, named after its start time and experiment.

    TensorBoard and CSV write to a folder of the run in ``tensorboard/`` and ``csv/``. Weights & Biases and MLflow take
    the account, project and server from their own environment variables, such as ``WANDB_PROJECT`` and
    ``MLFLOW_TRACKING_URI``.
    """
    settings = config.logging
    folder = settings.log_dir or config.training.output_dir
    server = os.environ.get("MLFLOW_TRACKING_URI")
    started = time.strftime("%Y%m%d-%H%M%S")
    run = f"{started}_{settings.experiment_name}" if settings.experiment_name else started
    build = {
        "tensorboard": lambda: TensorBoardLogger(folder, name="tensorboard", version=run, default_hp_metric=False),
        "csv": lambda: CSVLogger(folder, name="csv", version=run, flush_logs_every_n_steps=1),
        "wandb": lambda: WandbLogger(name=run, save_dir=folder),
        "mlflow": lambda: MLFlowLogger(
            run_name=run,
            # MLflow 3 refuses the folder of files that is Lightning's default
            tracking_uri=server or f"sqlite:///{folder.resolve() / 'mlflow.db'}",
            artifact_location=None if server else (folder / "mlruns").resolve().as_uri(),
        ),
    }
    return [build[name]() for name in dict.fromkeys(settings.logger)]


def log_values(loggers: list[Logger], values: dict[str, float], step: int) -> None:
    """Log numbers to every logger; ``step`` counts finished optimizer steps."""
    for logger in loggers:
        logger.log_metrics(values, step=step)


def log_text(loggers: list[Logger], tag: str, text: str) -> None:
    """Log a preformatted text to the loggers that show texts."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(tag, f"```\n{text}\n```")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_text(logger.run_id, text, f"{tag}.txt")


def log_image(loggers: list[Logger], tag: str, pixels: ndarray, step: int) -> None:
    """Log an image, uint8 ``[H, W, 3]``, to the loggers that show images."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [pixels], step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, pixels, key=tag, step=step)


class RunDescription(Callback):
    """Log the resolved settings and a summary of the model as texts, and the settings as hyper-parameters."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the description before training, so that a run that fails has one too."""
        if not trainer.is_global_zero:
            return
        log_text(trainer.loggers, "settings", as_yaml(self.config))
        log_text(trainer.loggers, "model", str(ModelSummary(pl_module, max_depth=3)))
        settings = self.config.flat()
        plain = {name: value if isinstance(value, int | float) else str(value) for name, value in settings.items()}
        compared = ("train/loss",) if trainer.datamodule.run_data.val is None else COMPARED
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
            if isinstance(logger, TensorBoardLogger):
                for summary in hparams(plain, dict.fromkeys(compared, 0.0)):
                    logger.experiment.file_writer.add_summary(summary)
