"""A run from settings to files: checks, training, evaluation."""

from __future__ import annotations

import logging
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from dino_detector.config import BackboneConfig, Config, DecoderConfig
from dino_detector.errors import InputError
from dino_detector.losses import build_criterion
from dino_detector.models.checkpoint import CheckpointHeader, read_checkpoint
from dino_detector.models.detector import Detector, build_detector, build_from_checkpoint, resolve_device
from dino_detector.models.dinov2_backbone import check_image_size, model_config_of
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.data import DetectionData, check_categories
from dino_detector.training.module import DetectorModule
from dino_detector.training.weight_averaging import MovingAverage
from dino_detector.validate import CocoMetrics

log = logging.getLogger(__name__)


def fit(config: Config, *, callbacks: list[Callback] | None = None) -> CocoMetrics:
    """Train a detector, from the start or from a checkpoint, and leave its files in ``output_dir``.

    Everything that can be known to be wrong is found before the first step. Files of an earlier run in ``output_dir``
    are moved aside, unless this run resumes it.

    Returns:
        The metrics after the last epoch.

    Raises:
        InputError: for settings, data or a checkpoint that can't be used.
        StoppedByUser: where the run was interrupted and can be resumed.
    """
    training = config.training
    device = resolve_device(training.device)
    data = DetectionData.read(config, training=True)
    if config.backbone.backbone_weights == "pretrained":
        check_image_size(config.data.image_size, model_config_of(config.backbone).patch_size)
    if training.checkpoint is not None:
        header, contents = read_checkpoint(training.checkpoint)
        _check_resumable(header, contents, config, data)
    else:
        _move_earlier_run(training.output_dir)
    training.output_dir.mkdir(parents=True, exist_ok=True)

    seed_everything(training.seed, verbose=False)
    detector = build_detector(config, categories=data.train_annotations.categories)
    if training.checkpoint is not None and detector.header.base_fingerprint != header.base_fingerprint:
        raise InputError(f"{training.checkpoint}: was trained on another base than {config.backbone.dino_model!r}")
    data.header = detector.header
    _log_plan(detector, data, device)

    module = DetectorModule(detector=detector, criterion=build_criterion(config))
    files = RunFiles(training.output_dir)
    trainer = build_trainer(
        config,
        device=device,
        logger=TensorBoardLogger(training.output_dir, name="tensorboard", version=time.strftime("%Y%m%d-%H%M%S")),
        callbacks=[
            *([MovingAverage(training.ema_decay)] if training.ema_decay else []),
            *(callbacks or []),
            files,
        ],
    )
    trainer.fit(module, datamodule=data, ckpt_path=training.checkpoint, weights_only=True)
    if module.skipped:
        log.warning("%d images could not be read and were skipped: %s", len(module.skipped), "; ".join(module.skipped))
    log.info("trained %d epochs in %.0f s; files are in %s", trainer.current_epoch, files.seconds, training.output_dir)
    return module.metrics


def evaluate(config: Config) -> CocoMetrics:
    """Evaluate ``config.training.checkpoint`` on the validation images.

    The detector and its preprocessing are those of the checkpoint; of ``config`` the data, the batch size, the device,
    the precision and, where it was given, another place of the base model count.

    Raises:
        InputError: for data or a checkpoint that can't be used, and for an image that can't be read.
    """
    header, contents = read_checkpoint(config.training.checkpoint)
    detector = build_from_checkpoint(header, contents, source=config.training.checkpoint)
    kept = {name: header.config.flat()[name] for name in (*MODEL_SETTINGS, "image_size", "resize_mode")}
    config = config.replace(**kept)
    data = DetectionData.read(config, training=False)
    data.header = header
    check_categories(
        data.val_annotations.categories,
        known=header.categories,
        source=data.val_annotations.path,
        known_source=config.training.checkpoint,
    )
    module = DetectorModule(detector=detector.merge(), criterion=build_criterion(config))
    trainer = build_trainer(config, device=resolve_device(config.training.device), logger=False, callbacks=[])
    trainer.validate(module, datamodule=data, verbose=False)
    return module.metrics


def build_trainer(config: Config, *, device: torch.device, logger: Any, callbacks: list[Callback]) -> Trainer:
    """The Lightning trainer of a run; data is sharded by our own samplers."""
    training = config.training
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision=_precision(training.precision, device),
        max_epochs=training.epochs,
        accumulate_grad_batches=training.accumulate_batches,
        gradient_clip_val=training.gradient_clip or None,
        check_val_every_n_epoch=training.val_frequency,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=logger,
        log_every_n_steps=10,
        callbacks=[*callbacks, TQDMProgressBar(leave=False)],
        enable_checkpointing=any(isinstance(callback, RunFiles) for callback in callbacks),
        enable_model_summary=False,
    )


MODEL_SETTINGS = [item.name for group in (BackboneConfig, DecoderConfig) for item in fields(group)]


def _precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[precision]


def _check_resumable(header: CheckpointHeader, contents: dict[str, Any], config: Config, data: DetectionData) -> None:
    """Raise `InputError` where the checkpoint is of another model or class set, or has nothing left to do."""
    source = config.training.checkpoint
    stored, wanted = header.config.flat(), config.flat()
    differing = [name for name in (*MODEL_SETTINGS, "image_size", "resize_mode") if stored[name] != wanted[name]]
    if differing:
        listed = ", ".join(f"--{name} {stored[name]} (here {wanted[name]})" for name in differing)
        raise InputError(f"{source}: was trained with other settings; to resume it give {listed}")
    train = data.train_annotations
    check_categories(header.categories, known=train.categories, source=source, known_source=train.path)
    check_categories(train.categories, known=header.categories, source=train.path, known_source=source)
    if "optimizer_states" not in contents:
        raise InputError(f"{source}: holds no training state, so it can be evaluated and used but not resumed")
    if contents["epoch"] + 1 > config.training.epochs or _is_finished(contents, config.training.epochs):
        raise InputError(f"{source}: has been trained for {config.training.epochs} epochs already; raise --epochs")


def _is_finished(contents: dict[str, Any], epochs: int) -> bool:
    return contents["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] >= epochs


def _move_earlier_run(output_dir: Path) -> None:
    """Move checkpoints and metrics of an earlier run to a folder of their own, so that none is overwritten."""
    files = [*output_dir.glob("dino_detector_*.pth"), *output_dir.glob("val_metrics_epoch_*.json")]
    if not files:
        return
    newest = max(file.stat().st_mtime for file in files)
    folder = output_dir / time.strftime("earlier_%Y%m%d-%H%M%S", time.localtime(newest))
    folder.mkdir(exist_ok=True)
    for file in files:
        file.replace(folder / file.name)
    log.info("moved the files of an earlier run to %s", folder)


def _log_plan(detector: Detector, data: DetectionData, device: torch.device) -> None:
    trained = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in detector.parameters())
    backbone = detector.backbone
    log.info(
        "%d training and %d validation images, %d classes; %s of %s parameters train, backbone layers %d to %d of %d; on %s",
        len(data.train_annotations.images),
        len(data.val_annotations.images),
        len(detector.categories),
        f"{trained:,}",
        f"{total:,}",
        backbone.trunk_depth + 1,
        len(backbone.model.encoder.layer),
        len(backbone.model.encoder.layer),
        device,
    )
