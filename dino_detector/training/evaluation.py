"""An evaluation from settings to numbers: a checkpoint on validation images, and detections in test images."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import (
    CacheConfig,
    Config,
    DataConfig,
    DistributedConfig,
    DownloadConfig,
    EvaluationConfig,
    SubsetConfig,
    TilingConfig,
)
from dino_detector.data.coco.crowded_images import warn_of_limit
from dino_detector.data.pictures.files import allow_megapixels
from dino_detector.errors import InputError
from dino_detector.inference.detector import build_from_checkpoint
from dino_detector.inference.postprocess import most_detections
from dino_detector.losses import build_criterion
from dino_detector.models.checkpoint import read_checkpoint
from dino_detector.models.cpu import optimize_for_cpu
from dino_detector.models.precision import resolve_precision
from dino_detector.storage.output_folder import make_output_dir
from dino_detector.training.data import DetectionData
from dino_detector.training.machine import resolve_machine
from dino_detector.training.module import DetectorModule
from dino_detector.training.sources import Sources, gather
from dino_detector.training.tiled_evaluation import FullSizeData, TiledModule
from dino_detector.training.trainer import build_trainer
from dino_detector.validate import CocoMetrics

log = logging.getLogger(__name__)

DECIDED_HERE = frozenset(
    (
        *(
            name
            for group in (CacheConfig, DownloadConfig, SubsetConfig, DistributedConfig, TilingConfig, EvaluationConfig)
            for name in group.__dataclass_fields__
        ),
        *(name for name in DataConfig.__dataclass_fields__ if name not in ("image_size", "resize_mode", "white_level")),
        *("output_dir", "checkpoint", "skip_checkpoint_load", "only_evaluate", "batch_size", "precision", "device"),
        "seed",
    )
)
"""Settings of an evaluation that are those of its command; all others are the checkpoint's."""


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        config: the settings that count: of the checkpoint what the detector is, of the command the rest.
        sources: the images.
        metrics: COCO metrics on the validation images; None where there are none.
        results: the detections behind them, as COCO results with the original ids.
        test_results: those in the test images, likewise.
        unreadable: one line for each test image that could not be read.
    """

    config: Config
    sources: Sources
    metrics: CocoMetrics | None
    results: list[dict[str, Any]]
    test_results: list[dict[str, Any]]
    unreadable: tuple[str, ...]


def evaluate(config: Config, *, dino_model: str | None = None) -> Evaluation:
    """Evaluate ``config.training.checkpoint`` on the validation images and detect in the test images.

    The detector and its preprocessing are those of the checkpoint; of ``config`` the data, the batch size, the device,
    the processes, the tiles and, unless it is auto, the precision count. ``output_dir`` is made, for what the caller
    writes.

    Args:
        config: settings.
        dino_model: name or folder of the base model, where it is not the one the checkpoint names.

    Raises:
        InputError: for data or a checkpoint that can't be used, and for a validation image that can't be read.
    """
    source = config.training.checkpoint
    if source is None or config.training.skip_checkpoint_load:
        raise InputError("there is nothing to evaluate; give a checkpoint with --checkpoint and do not skip it")
    machine = resolve_machine(config)
    allow_megapixels(config.data.max_megapixels)
    header, contents = read_checkpoint(source)
    flat = config.flat()
    machine = machine._replace(precision=_precision(header.config, config, machine.device))
    flat["precision"] = machine.precision
    config = header.config.replace(**{name: flat[name] for name in flat.keys() & DECIDED_HERE})
    sources = gather(config, training=False, categories=header.categories)
    sources.check_classes(header.categories, source=source, num_classes=config.data.num_classes)
    sources.fetch(config.download)
    if sources.val is not None and rank_zero_only.rank == 0:
        if not len(sources.val.annotations.training.labels):
            log.warning("%s has no boxes, so there is no AP", sources.val.annotations.path)
        found = None if config.tiling.tile_size else most_detections(config.decoder.num_queries)
        warn_of_limit(sources.val.annotations, config.evaluation.max_detections, found=found)
    detector = build_from_checkpoint(header, contents, source=source, dino_model=dino_model).merge()
    if machine.device.type == "cpu":
        optimize_for_cpu(detector)
    make_output_dir(config.training.output_dir)
    if config.tiling.tile_size is None:
        data = DetectionData(config=config, sources=sources)
        max_detections = config.evaluation.max_detections
        module = DetectorModule(detector=detector, criterion=build_criterion(config), max_detections=max_detections)
    else:
        data = FullSizeData(config=config, sources=sources)
        module = TiledModule(detector=detector, criterion=build_criterion(config), config=config)
    data.header = header
    trainer = build_trainer(config, machine)
    if sources.val is not None and machine.processes > 1 and rank_zero_only.rank == 0:
        data.val_dataset().check_readable()  # a process that finds it later can't end the others well
    if sources.val is not None:
        trainer.validate(module, datamodule=data, verbose=False)
    if sources.test is not None:
        trainer.predict(module, datamodule=data, return_predictions=False)
    return Evaluation(
        config.replace(dino_model=detector.config.backbone.dino_model),
        sources,
        module.metrics,
        module.results,
        module.test_results,
        (*sources.unreadable, *sorted(module.skipped)),
    )


def _precision(trained: Config, wanted: Config, device: torch.device) -> str:
    """Return the wanted precision; for auto the precision of the evaluations in training, where the device has it."""
    precision = wanted.training.precision
    if precision == "auto" and not (trained.training.precision == "16" and device.type == "cpu"):
        precision = trained.training.precision
    return resolve_precision(precision, device)
