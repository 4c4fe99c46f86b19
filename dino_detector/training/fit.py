"""A run from settings to files: checks, training, evaluation."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from dino_detector.config import Config, TrainingConfig
from dino_detector.errors import InputError
from dino_detector.losses import build_criterion
from dino_detector.models.checkpoint import CheckpointHeader, read_checkpoint
from dino_detector.models.detector import Detector, build_detector, build_from_checkpoint, resolve_device
from dino_detector.models.dinov2_base import check_image_size, model_config_of
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.data import DetectionData, check_categories
from dino_detector.training.module import DetectorModule
from dino_detector.training.progress import EpochLines
from dino_detector.training.weight_averaging import MovingAverage
from dino_detector.validate import CocoMetrics

log = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """COCO metrics, and the detections of all validation images behind them as COCO results with the original ids."""

    metrics: CocoMetrics
    results: list[dict[str, Any]]


def fit(config: Config, *, callbacks: list[Callback] | None = None) -> CocoMetrics:
    """Train a detector, from the start or from a checkpoint, and leave its files in ``output_dir``.

    Everything that can be known to be wrong is found before the first step, and leaves no trace in ``output_dir``.
    Files of an earlier run there are moved aside, unless this run resumes it.

    Returns:
        The metrics after the last epoch.

    Raises:
        InputError: for settings, data or a checkpoint that can't be used.
        StoppedByUser: where the run was interrupted and can be resumed.
    """
    training = config.training
    device = resolve_device(training.device)
    precision = _precision(training.precision, device)
    data = DetectionData.read(config, training=True)
    resumed = None if training.checkpoint is None else _read_resumable(config, data)
    check_image_size(config.data.image_size, model_config_of(config.backbone).patch_size)
    data.val_dataset().check_readable()  # or the first evaluation would end the run, hours from now

    seed_everything(training.seed, verbose=False)
    detector = build_detector(config, categories=data.train_annotations.categories)
    if resumed is not None and resumed.base_fingerprint != detector.header.base_fingerprint:
        raise InputError(
            f"{training.checkpoint}: the weights of {config.backbone.dino_model!r} are not those it was trained on "
            "(their fingerprints differ); give the base it was trained on with --dino_model"
        )
    height, width = config.data.image_size
    patches = height * width // detector.backbone.patch_size**2
    if device.type == "cpu" and patches <= PLAIN_ATTENTION_PATCHES:
        detector.backbone.use_plain_attention()
    data.header = detector.header
    _prepare_output_dir(training)
    _log_plan(detector, data, device)

    module = DetectorModule(detector=detector, criterion=build_criterion(config))
    files = RunFiles(training.output_dir)
    trainer = build_trainer(
        config,
        device=device,
        precision=precision,
        logger=TensorBoardLogger(training.output_dir, name="tensorboard", version=time.strftime("%Y%m%d-%H%M%S")),
        callbacks=[
            *([MovingAverage(training.ema_decay)] if training.ema_decay else []),
            *(callbacks or []),
            EpochLines(),
            files,
        ],
    )
    trainer.fit(module, datamodule=data, ckpt_path=training.checkpoint, weights_only=True)
    if module.skipped:
        log.warning("%d images could not be read and were skipped; one: %s", len(module.skipped), min(module.skipped))
    log.info("trained %d epochs in %.0f s; files are in %s", trainer.current_epoch, files.seconds, training.output_dir)
    return module.metrics


def evaluate(config: Config, *, dino_model: str | None = None) -> Evaluation:
    """Evaluate ``config.training.checkpoint`` on the validation images.

    The detector and its preprocessing are those of the checkpoint; of ``config`` the data, the batch size, the device
    and the precision count.

    Args:
        config: settings.
        dino_model: name or folder of the base model, where it is not the one the checkpoint names.

    Raises:
        InputError: for data or a checkpoint that can't be used, and for an image that can't be read.
    """
    source = config.training.checkpoint
    if source is None:
        raise InputError("there is nothing to evaluate; give a checkpoint with --checkpoint")
    device = resolve_device(config.training.device)
    precision = _precision(config.training.precision, device)
    header, contents = read_checkpoint(source)
    trained = header.config.data
    seen_as_in_training = replace(config.data, image_size=trained.image_size, resize_mode=trained.resize_mode)
    config = replace(config, data=seen_as_in_training)
    data = DetectionData.read(config, training=False)
    data.header = header
    val = data.val_annotations
    check_categories(val.categories, known=header.categories, source=val.path, known_source=source)
    detector = build_from_checkpoint(header, contents, source=source, dino_model=dino_model)
    module = DetectorModule(detector=detector.merge(), criterion=build_criterion(config))
    trainer = build_trainer(config, device=device, precision=precision, logger=False, callbacks=[])
    trainer.validate(module, datamodule=data, verbose=False)
    return Evaluation(module.metrics, module.results)


def build_trainer(
    config: Config, *, device: torch.device, precision: str, logger: Any, callbacks: list[Callback]
) -> Trainer:
    """The Lightning trainer of a run, on one device; ``precision`` in Lightning's words."""
    training = config.training
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision=precision,
        max_epochs=training.epochs,
        accumulate_grad_batches=training.accumulate_batches,
        gradient_clip_val=training.gradient_clip or None,
        check_val_every_n_epoch=training.val_frequency,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=logger,
        log_every_n_steps=10,
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty(),
        enable_checkpointing=any(isinstance(callback, RunFiles) for callback in callbacks),
        enable_model_summary=False,
    )


PLAIN_ATTENTION_PATCHES = 600
"""On CPUs the backward pass of fused attention is slow; with so few patches the plain one needs little memory."""

MAY_CHANGE = (
    *("train_images", "train_annotations", "val_images", "val_annotations", "output_dir"),
    *("checkpoint", "only_evaluate", "lightweight", "epochs", "val_frequency", "num_workers", "precision", "device"),
)
"""Settings that a resumed run may change; with another of the rest it would not be the same run."""


def _precision(precision: str, device: torch.device) -> str:
    if precision == "16" and device.type == "cpu":
        raise InputError("precision 16 does not train on a CPU; use --precision 32 or bf16")
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[precision]


def _read_resumable(config: Config, data: DetectionData) -> CheckpointHeader:
    """Header of the checkpoint to resume; raises `InputError` where the run can't go on as it began."""
    source = config.training.checkpoint
    header, contents = read_checkpoint(source)
    stored, wanted = header.config.flat(), config.flat()
    # A base that is known by its weights may have moved.
    may_change = (*MAY_CHANGE, "dino_model") if header.base_fingerprint else MAY_CHANGE
    differing = [name for name in stored if name not in may_change and stored[name] != wanted[name]]
    if differing:
        listed = ", ".join(f"--{name} {_as_flag(stored[name])} (here {_as_flag(wanted[name])})" for name in differing)
        raise InputError(f"{source}: was trained with other settings; to resume it give {listed}")
    train = data.train_annotations
    check_categories(header.categories, known=train.categories, source=source, known_source=train.path)
    check_categories(train.categories, known=header.categories, source=train.path, known_source=source)
    if "loops" not in contents:
        raise InputError(f"{source}: holds no training state, so it can be evaluated and used but not resumed")
    epochs = contents["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if epochs >= config.training.epochs:
        raise InputError(f"{source}: has been trained for {epochs} epochs already; give more with --epochs")
    return header


def _as_flag(value: Any) -> str:
    """A setting as it is written after its flag."""
    return value if isinstance(value, str) else json.dumps(value)


def _prepare_output_dir(training: TrainingConfig) -> None:
    """Make the folder, and move what an earlier run left in it aside so that no file is overwritten."""
    folder = training.output_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        resumes_here = training.checkpoint is not None and training.checkpoint.resolve().parent == folder.resolve()
        if not resumes_here:
            _move_earlier_run(folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be written to ({error.strerror}); give another --output_dir") from error


def _move_earlier_run(output_dir: Path) -> None:
    """Move checkpoints, metrics and settings to a folder that is named by the time of the newest."""
    names = ("dino_detector_*.pth", "val_metrics_epoch_*.json", "config.yaml")
    files = [file for name in names for file in output_dir.glob(name)]
    if not files:
        return
    newest = max(file.stat().st_mtime for file in files)
    folder = output_dir / time.strftime("earlier_%Y%m%d-%H%M%S", time.localtime(newest))
    while folder.exists():
        folder = folder.with_name(f"{folder.name}_")
    folder.mkdir()
    for file in files:
        file.replace(folder / file.name)
    log.info("moved the files of an earlier run to %s", folder)


def _log_plan(detector: Detector, data: DetectionData, device: torch.device) -> None:
    trained = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in detector.parameters())
    backbone = detector.backbone
    log.info(
        "%d training and %d validation images, %d classes; "
        "%s of %s parameters train, backbone layers %d to %d of %d; on %s",
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
