"""A training run from settings to files: checks, training, detections in test images."""

from __future__ import annotations

import logging
import math

import numpy as np
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import Config, TrainingConfig
from dino_detector.data.coco.crowded_images import warn_of_limit
from dino_detector.data.pictures.bit_depth import survey
from dino_detector.data.pictures.files import allow_megapixels
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, build_detector
from dino_detector.inference.postprocess import most_detections
from dino_detector.losses import build_criterion
from dino_detector.models.dinov2_base import check_image_size, model_config_of
from dino_detector.plain_text import counted
from dino_detector.storage.file_set import recover
from dino_detector.storage.output_folder import locked, make_output_dir
from dino_detector.training.caching import build_caching
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.data import DetectionData
from dino_detector.training.early_stopping import build_early_stopping
from dino_detector.training.failures import explained
from dino_detector.training.logging.description import RunDescription
from dino_detector.training.logging.histograms import HistogramLog
from dino_detector.training.logging.images import ImageLog
from dino_detector.training.logging.loggers import build_loggers, require_loggers
from dino_detector.training.logging.scalars import ScalarLog
from dino_detector.training.machine import Machine, resolve_machine
from dino_detector.training.memory import MemoryMonitor
from dino_detector.training.module import DetectorModule
from dino_detector.training.output_dir import prepare_output_dir
from dino_detector.training.progress import EpochLines
from dino_detector.training.rehearsal import Rehearsal
from dino_detector.training.resuming import begin, read_start
from dino_detector.training.sources import Sources, gather
from dino_detector.training.testdev import write_testdev
from dino_detector.training.trainer import build_trainer
from dino_detector.training.weight_averaging import MovingAverage
from dino_detector.validate import CocoMetrics

log = logging.getLogger(__name__)


def fit(config: Config, *, callbacks: list[Callback] | None = None) -> CocoMetrics | None:
    """Train a detector, from the start or from a checkpoint, and leave its files in ``output_dir``.

    Everything that can be known to be wrong is found before the first step, and leaves no trace in ``output_dir``.
    Files of an earlier run there are moved aside, unless this run resumes it. With ``distributed`` the other processes
    run the command line of this one again, from its beginning.

    Args:
        config: settings.
        callbacks: of Lightning, beside those that the settings ask for.

    Returns:
        The metrics after the last epoch; None where there are no validation images.

    Raises:
        InputError: for settings, data or a checkpoint that can't be used.
        StoppedByUser: where the run was interrupted and can be resumed.
    """
    if config.tiling.tile_size is not None:
        raise InputError("tile_size is for evaluation and prediction; add --only_evaluate or leave it out")
    if rank_zero_only.rank:
        return _fit(config, callbacks or [])
    with locked(config.training.output_dir, "training"):
        recover(config.training.output_dir)
        return _fit(config, callbacks or [])


def _fit(config: Config, callbacks: list[Callback]) -> CocoMetrics | None:
    """Train, as one of the processes of the run."""
    machine = resolve_machine(config)
    if config.distributed.distributed:
        config = config.replace(world_size=machine.processes)  # a resumed run has the same number
    require_loggers(config)
    allow_megapixels(config.data.max_megapixels)
    sources = gather(config, training=True)
    train = sources.train.annotations
    sources.check_classes(train.categories, source=train.path, num_classes=config.data.num_classes)
    config = _surveyed(config, sources)
    training = config.training
    stopping = build_early_stopping(training, sources.val)
    data = DetectionData(config=config, sources=sources)
    start = read_start(config, train.categories, annotations=train.path, data=data)
    patch = model_config_of(config.backbone).patch_size
    check_image_size(config.data.image_size, patch)
    _check_multi_scale(config, patch=patch)
    sources.fetch(config.download)
    if sources.val is not None and rank_zero_only.rank == 0:
        data.val_dataset().check_readable()  # or the first evaluation would end the run, hours from now

    seed_everything(training.seed, verbose=False)
    detector = build_detector(config, categories=train.categories)
    if start is not None:
        begin(detector, start, source=training.checkpoint)
    detector.optimize_training(precision=machine.precision, device=machine.device)
    data.header = detector.header
    data.caching = build_caching(config, detector, precision=machine.precision)
    epochs_before = None if start is None else start.epochs
    if rank_zero_only.rank == 0 and config.logging.log_dir is not None:
        make_output_dir(config.logging.log_dir, flag="--log_dir")
    _log_plan(detector, sources, machine, images_per_epoch=data.images_per_epoch)
    _warn_of_queries(detector, sources)

    if data.caching is not None:
        val = None if sources.val is None else data.val_dataset()
        data.caching.log_plan(data.train_dataset(), val, times=data.most_per_epoch)

    module = DetectorModule(
        detector=detector,
        criterion=build_criterion(config),
        planned_epochs=None if start is None or not start.resumes else start.planned_epochs,
        caching=data.caching,
        max_detections=config.evaluation.max_detections,
    )
    rehearsal = Rehearsal(config, measure=config.logging.memory_monitor)
    files = RunFiles(training.output_dir, keep_epochs=not config.subset.debug)
    trainer = build_trainer(
        config,
        machine,
        loggers=build_loggers(config),
        callbacks=[
            rehearsal,
            _FirstFiles(sources, training, epochs_before=epochs_before),
            *(
                *_observers(config, rehearsal),
                *callbacks,
                EpochLines(),
                *([stopping] if stopping else []),
                files,
            ),
        ],
    )
    resumed = None if epochs_before is None else training.checkpoint
    with explained(trainer, config, patch=detector.backbone.patch_size):
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    if module.skipped:
        log.warning("%d images could not be read and were skipped; one: %s", len(module.skipped), min(module.skipped))
    log.info(
        "trained to epoch %d in %.0f s; files are in %s", trainer.current_epoch, files.seconds, training.output_dir
    )
    if files.best_epoch and files.best_ap >= 0:
        best = files.best or "in the folder of the run that was resumed"
        log.info("the best AP, %.3f, is that of epoch %d: %s", files.best_ap, files.best_epoch, best)
    if sources.test is not None:
        _detect_in_test_images(trainer, module, data)
    return module.metrics


class _FirstFiles(Callback):
    """Makes the output folder ready: when the processes have read what they need of an earlier run there, and the
    largest step has been found to fit."""

    def __init__(self, sources: Sources, training: TrainingConfig, *, epochs_before: int | None) -> None:
        self.sources = sources
        self.training = training
        self.epochs_before = epochs_before

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called after the rehearsal, and before anything is written."""
        if trainer.is_global_zero:
            prepare_output_dir(self.training, epochs_before=self.epochs_before)
            self.sources.write_subsets(self.training.output_dir)


def _surveyed(config: Config, sources: Sources) -> Config:
    """Return the config with the white level of the training images, and log it; pictures of 8 bits need none."""
    train = sources.train
    found = survey(train.folder, [] if train.fetch else train.annotations.images.file_names)
    if found.framed:
        log.warning(
            "%d of %s have several frames, of which the first is used",
            *(found.framed, counted(found.looked_at, "picture")),
        )
    if not found.deep or config.data.white_level is not None:
        return config
    log.info(
        "%d of %s have more than 8 bits; %g is white in them, by their largest value (--white_level)",
        *(found.deep, counted(found.looked_at, "picture"), found.white_level),
    )
    return config.replace(white_level=found.white_level)


def _check_multi_scale(config: Config, *, patch: int) -> None:
    """Raise `InputError` where the sizes that multi_scale allows are the image size alone."""
    change, sizes = config.augmentation.multi_scale, config.augmentation.input_sizes(config.data.image_size, patch)
    if config.augmentation.augmentation and change and len(sizes) == 1:
        least = patch / max(config.data.image_size)
        raise InputError(
            f"multi_scale {change:g} changes image_size {config.data.image_size} by less than a patch of {patch} "
            f"pixels; give at least {math.ceil(100 * least) / 100:g}, or 0"
        )


def _observers(config: Config, rehearsal: Rehearsal) -> list[Callback]:
    """The callbacks that average and log; what they do takes place in this order."""
    settings = config.logging
    observers: list[Callback] = []
    if config.training.ema_decay:
        observers.append(MovingAverage(config.training.ema_decay, warmup=config.training.ema_warmup))
    if settings.logger:
        observers += [RunDescription(config), HistogramLog()]
        observers.append(ScalarLog(frequency=settings.log_frequency, layers=settings.log_layers))
    if settings.log_images:
        observers.append(ImageLog(settings.log_images_frequency))
    if settings.memory_monitor:
        observers.append(MemoryMonitor(rehearsal))
    return observers


def _detect_in_test_images(trainer: Trainer, module: DetectorModule, data: DetectionData) -> None:
    module.skipped.clear()
    trainer.predict(module, datamodule=data, return_predictions=False)
    if not trainer.is_global_zero:
        return
    test, unreadable = data.sources.test.annotations, (*data.sources.unreadable, *sorted(module.skipped))
    path = write_testdev(module.test_results, test, data.config.training.output_dir)
    log.info("detections in %d test images are in %s", len(test.images) - len(module.skipped), path)
    for reason in unreadable:
        log.warning("no detections in %s", reason)


def _trained_of_backbone(detector: Detector) -> str:
    backbone = detector.backbone
    if backbone.trunk_depth == backbone.depth:
        return "none of the backbone"
    layers = f"backbone layers {backbone.trunk_depth} to {backbone.depth - 1} of {backbone.depth}, counted from 0"
    return f"adapters in {layers}" if detector.config.backbone.train_backbone == "lora" else layers


def _log_plan(detector: Detector, sources: Sources, machine: Machine, *, images_per_epoch: int) -> None:
    trained = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in detector.parameters())
    config = detector.config
    counts = [f"{len(sources.train.annotations.images):,} training images"]
    if images_per_epoch > len(sources.train.annotations.images):
        counts[0] += f" ({images_per_epoch:,} an epoch, as those of rare classes are repeated)"
    if sources.val is not None:
        counts.append(f"{len(sources.val.annotations.images):,} validation images")
    if sources.test is not None:
        counts.append(f"{len(sources.test.annotations.images):,} test images")
    log.info(
        "%s, %s; %s of %s parameters train, %s; on %s%s, precision %s",
        ", ".join(counts),
        counted(len(detector.categories), "class", "classes"),
        f"{trained:,}",
        f"{total:,}",
        _trained_of_backbone(detector),
        machine.device,
        f" in {machine.processes} processes" if machine.processes > 1 else "",
        machine.precision,
    )
    if config.backbone.backbone_weights == "random" and config.backbone.train_backbone != "full":
        log.warning(
            "the backbone has random weights, which --train_backbone %s leaves as they are; give --train_backbone full",
            config.backbone.train_backbone,
        )
    epochs, plain_from = config.training.epochs, config.augmentation.plain_from(config.training.epochs)
    if config.augmentation.augmentation and plain_from < epochs:
        log.info(
            "the last %s of %d show images whole and without others' objects (--no_augment_fraction %g)",
            *(counted(epochs - plain_from, "epoch"), epochs, config.augmentation.no_augment_fraction),
        )
    if sources.val is None:
        log.info("nothing is evaluated, as no validation images are given (--val_images and --val_annotations)")
    elif not len(sources.val.annotations.training.labels):
        log.warning("%s has no boxes, so there is no AP and no best checkpoint", sources.val.annotations.path)
    else:
        found = most_detections(config.decoder.num_queries)
        warn_of_limit(sources.val.annotations, config.evaluation.max_detections, found=found)


def _warn_of_queries(detector: Detector, sources: Sources) -> None:
    """Say where objects can't all be found, as there are fewer queries, or fewer of these than were asked for."""
    config, patch = detector.config, detector.backbone.patch_size
    wanted = config.decoder.num_queries
    of_images = np.sort(np.diff(sources.train.annotations.training.starts))
    mosaics = config.augmentation.augmentation and config.augmentation.mosaic_probability > 0
    most = int(of_images[-4:].sum() if mosaics else of_images[-1])
    if most > wanted:
        log.warning(
            "there are %s with up to %d boxes, and --num_queries %d can't find more than %d; give %d or more",
            *("mosaics" if mosaics else "images", most, wanted, wanted, most),
        )
    height, width = config.augmentation.input_sizes(config.data.image_size, patch)[0]
    grid = height // patch, width // patch
    cells = sum(math.ceil(grid[0] * scale) * math.ceil(grid[1] * scale) for scale in config.decoder.feature_scales)
    if config.decoder.two_stage and cells < wanted:
        log.warning(
            "the feature levels of %dx%d pixels have %d cells, where queries start, so of --num_queries %d no more are "
            "used; a larger --image_size or more --feature_scales have more",
            *(height, width, cells, wanted),
        )
