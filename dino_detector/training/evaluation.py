"""Evaluation of a checkpoint: metrics on validation images, and detections in test images."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import Config
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.unlabelled import DETECTED_INFO
from dino_detector.data.pictures.opening import allow_megapixels
from dino_detector.errors import InputError
from dino_detector.inference.detector import build_from_checkpoint
from dino_detector.inference.postprocess import most_detections
from dino_detector.losses import build_criterion
from dino_detector.models.checkpoint import read_checkpoint
from dino_detector.models.cpu import optimize_for_cpu
from dino_detector.models.device import resolve_precision
from dino_detector.storage.files import write_whole
from dino_detector.storage.output_folder import make_output_dir
from dino_detector.structures.evaluation_files import write_results
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.module import DetectorModule
from dino_detector.training.run_data import ReadData, RunData, read_run_data
from dino_detector.training.trainer import build_trainer, resolve_machine

log = logging.getLogger(__name__)

DECIDED_HERE = frozenset(
    name
    for group in ("cache", "data", "download", "subset", "distributed", "tiling", "evaluation")
    for name in vars(getattr(Config(), group))
    if name not in ("image_size", "resize_mode", "white_level")
) | {"output_dir", "checkpoint", "skip_checkpoint_load", "only_evaluate", "batch_size", "precision", "device", "seed"}
"""settings that an evaluation takes from its command; it takes all others from the checkpoint"""


class Evaluation(NamedTuple):
    """Results of an evaluation.

    Attributes:
        config: settings of the checkpoint, and of the command for the names in `DECIDED_HERE`.
        data: evaluated images.
        metrics: COCO metrics on the validation images; None without validation images.
        results: detections in the validation images, as COCO results with the original ids.
        test_results: detections in the test images, likewise.
        unreadable: one line for each unreadable test image.
    """

    config: Config
    data: RunData
    metrics: CocoMetrics | None
    results: list[dict[str, Any]]
    test_results: list[dict[str, Any]]
    unreadable: tuple[str, ...]


def evaluate(config: Config, *, dino_model: str | None = None, read_data: ReadData = read_run_data) -> Evaluation:
    """Evaluate ``config.training.checkpoint`` on the validation images, and detect objects in the test images.

    The checkpoint decides the detector and its preprocessing. ``config`` decides the data, the batch size, the device,
    the processes, the tiles and, unless it is auto, the precision. The function creates ``output_dir`` and writes
    nothing there. ``dino_model`` is the name or folder of the base model; None takes the name in the checkpoint.
    ``read_data`` reads the data.

    Raises:
        InputError: the data or the checkpoint is wrong, or a validation image is unreadable.
    """
    source = config.training.checkpoint
    if source is None or config.training.skip_checkpoint_load:
        raise InputError("there is no checkpoint to evaluate; give --checkpoint, without --skip_checkpoint_load")
    machine = resolve_machine(config)
    allow_megapixels(config.data.max_megapixels)
    header, contents = read_checkpoint(source)
    machine = machine._replace(precision=_precision(header.config, config, machine.device))
    here = {name: value for name, value in config.flat().items() if name in DECIDED_HERE}
    config = header.config.replace(**here | {"precision": machine.precision})
    _warn_of_training_images(header.config, config)
    run_data = read_data(config, training=False, categories=header.categories)
    run_data.check_classes(header.categories, source=source, num_classes=config.data.num_classes)
    run_data.fetch(config.download)
    if run_data.val is not None and rank_zero_only.rank == 0:
        annotations = run_data.val.annotations
        if not len(annotations.training.labels):
            log.warning("%s has no boxes, so there is no AP", annotations.path)
        found = None if config.tiling.tile_size else most_detections(config.decoder.num_queries)
        annotations.warn_of_limit(config.evaluation.max_detections, found=found)
    detector = build_from_checkpoint(header, contents, source=source, dino_model=dino_model).merge()
    if machine.device.type == "cpu":
        optimize_for_cpu(detector)
    make_output_dir(config.training.output_dir)
    data = DetectionData(config=config, run_data=run_data)
    data.header = header
    module = DetectorModule(detector=detector, criterion=build_criterion(config))
    trainer = build_trainer(config, machine)
    skips = config.data.skip_unreadable  # every process leaves out the same images
    if run_data.val is not None and (skips or (machine.processes > 1 and rank_zero_only.rank == 0)):
        data.check_validation_images()  # another process could not end the run cleanly
        run_data = data.run_data
    if run_data.val is not None:
        trainer.validate(module, datamodule=data, verbose=False)
    if run_data.test is not None:
        trainer.predict(module, datamodule=data, return_predictions=False)
    config = config.replace(dino_model=detector.config.backbone.dino_model)
    unreadable = unreadable_images(run_data, module)
    return Evaluation(config, run_data, module.metrics, module.results, module.test_results, unreadable)


def unreadable_images(run_data: RunData, module: DetectorModule) -> tuple[str, ...]:
    """Return one line for each unreadable test image, found while listing the folder or in the detection pass."""
    return (*(() if run_data.test is None else run_data.test.unreadable), *sorted(module.skipped))


def write_test_results(results: list[dict[str, Any]], images: CocoAnnotations, output_dir: Path) -> Path:
    """Write detections in test images, as the COCO evaluation server takes them, and return the path.

    A second file lists the images, because their ids may follow from the order of their names. ``results`` are COCO
    results with original category ids and boxes in pixels.
    """
    listed = {key: images.ground_truth[key] for key in ("images", "categories")}
    write_whole(output_dir / DETECTED_INFO, json.dumps(listed, ensure_ascii=False) + "\n")
    path = output_dir / "testdev_predictions_final.json"
    write_results(path, results)
    return path


def _warn_of_training_images(trained: Config, config: Config) -> None:
    """Warn if the detector was trained on a part of a data set that is evaluated as a whole."""
    named = config.data.data
    same = named is not None and trained.data.data is not None and named.resolve() == trained.data.data.resolve()
    if same and trained.data.val_fraction is not None and config.data.val_fraction is None:
        text = "the detector was trained on images of %s with --val_fraction %g; without that, they are evaluated too"
        log.warning(text, named, trained.data.val_fraction)


def _precision(trained: Config, wanted: Config, device: torch.device) -> str:
    """Return the wanted precision; auto is the precision of training if the device supports it."""
    precision = wanted.training.precision
    if precision == "auto" and not (trained.training.precision == "16" and device.type == "cpu"):
        precision = trained.training.precision
    return resolve_precision(precision, device)
