"""A training run from settings to files: checks, training, and detections in test images."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import Config
from dino_detector.config.yaml_text import write_config
from dino_detector.data.pictures.bit_depth import survey
from dino_detector.data.pictures.opening import allow_megapixels
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, build_detector
from dino_detector.inference.postprocess import most_detections
from dino_detector.losses import build_criterion
from dino_detector.models.dinov2_base import check_image_size, check_published_size, model_config_of
from dino_detector.plain_text import counted
from dino_detector.storage.file_set import recover
from dino_detector.storage.output_folder import locked, make_output_dir
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.training.caching import TrunkCaching
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.early_stopping import build_early_stopping
from dino_detector.training.estimate import RunEstimate
from dino_detector.training.evaluation import unreadable_images, write_test_results
from dino_detector.training.failures import explained
from dino_detector.training.history import EpochHistory
from dino_detector.training.logging.images import ImageLog
from dino_detector.training.logging.loggers import RunDescription, build_loggers, require_loggers
from dino_detector.training.logging.scalars import HistogramLog, ScalarLog
from dino_detector.training.memory import MemoryMonitor, Rehearsal
from dino_detector.training.module import DetectorModule
from dino_detector.training.optimization import MovingAverage
from dino_detector.training.pace import Pace
from dino_detector.training.progress import EpochLines
from dino_detector.training.resuming import read_start
from dino_detector.training.run_data import ReadData, RunData, SplitData, read_run_data, write_items
from dino_detector.training.run_files import BEST, RunFiles, prepare_output_dir
from dino_detector.training.trainer import Machine, build_trainer, resolve_machine

log = logging.getLogger(__name__)


def fit(
    config: Config,
    *,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    read_data: ReadData = read_run_data,
) -> CocoMetrics | None:
    """Train a detector, from scratch or from a checkpoint, and write its files to ``output_dir``.

    All checks run before the first step and leave ``output_dir`` unchanged. A new run moves the files of an earlier run
    aside; a resumed run keeps them. With ``distributed``, the other processes run the same command line.

    Args:
        config: settings.
        callbacks: further Lightning callbacks.
        loggers: further Lightning loggers.
        read_data: reads the data.

    Returns:
        Metrics after the last epoch; None without validation images.

    Raises:
        InputError: the settings, the data or the checkpoint are wrong, or training can't go on.
        StoppedByUser: A signal stopped the run.
    """
    if config.tiling.tile_size is not None:
        raise InputError("tile_size is for evaluation and prediction; add --only_evaluate or leave it out")
    if rank_zero_only.rank:
        return _fit(config, callbacks, loggers, read_data)
    with locked(config.training.output_dir, "training"):
        recover(config.training.output_dir)
        return _fit(config, callbacks, loggers, read_data)


def _fit(
    config: Config, callbacks: Sequence[Callback], loggers: Sequence[Logger], read_data: ReadData
) -> CocoMetrics | None:
    """Train, as one of the processes of the run."""
    machine = resolve_machine(config)
    if config.distributed.distributed:
        config = config.replace(world_size=machine.processes)  # a resumed run must have the same number
    require_loggers(config)
    allow_megapixels(config.data.max_megapixels)
    run_data = read_data(config, training=True)
    train = run_data.train.annotations
    run_data.check_classes(train.categories, source=train.path, num_classes=config.data.num_classes)
    if run_data.train.items is None:
        config = _with_white_level(config, run_data.train)
    elif config.cache.cache_trunk is not None:
        raise InputError(
            "cache_trunk knows images by their files, and a data set in memory may give another image each time; leave "
            "it out, or give a folder of files"
        )
    training = config.training
    stopping = build_early_stopping(training, run_data.val)
    data = DetectionData(config=config, run_data=run_data)
    start = read_start(config, data)
    check_published_size(config.data.image_size, config.backbone.dino_model)  # before the model is fetched
    patch = model_config_of(config.backbone).patch_size
    check_image_size(config.data.image_size, patch)
    _check_multi_scale(config, patch=patch)
    run_data.fetch(config.download)
    if run_data.val is not None and (rank_zero_only.rank == 0 or config.data.skip_unreadable):
        data.check_validation_images()  # an unreadable image would end the first evaluation, hours from now
        run_data = data.run_data

    seed_everything(training.seed, verbose=False)
    detector = build_detector(config, categories=train.categories)
    if start is not None:
        start.apply(detector)
    detector.optimize_training(precision=machine.precision, device=machine.device)
    data.header = detector.header
    if config.cache.cache_trunk is not None:
        data.caching = TrunkCaching(config, detector, precision=machine.precision)
    epochs_before = None if start is None else start.epochs
    if rank_zero_only.rank == 0 and config.logging.log_dir is not None:
        make_output_dir(config.logging.log_dir, flag="--log_dir")
    _log_plan(detector, run_data, machine, images_per_epoch=data.images_per_epoch)
    _warn_of_queries(detector, run_data.train)
    if data.caching is not None:
        val = None if run_data.val is None else data.val_dataset()
        data.caching.log_plan(data.train_dataset(), val, max_repeats=data.max_repeats)

    module = DetectorModule(detector=detector, criterion=build_criterion(config))

    def prepare_files(trainer: Trainer, module: DetectorModule) -> None:
        if trainer.is_global_zero:
            prepare_output_dir(training, epochs_before=epochs_before)
            run_data.write_subsets(training.output_dir)
            write_items(run_data.val)
            write_config(module.settings, training.output_dir / "config.yaml")

    logs, rehearsal, pace = config.logging, Rehearsal(config), Pace()
    history = EpochHistory(pace)
    logged = [*build_loggers(config), *loggers]
    files = RunFiles(training.output_dir, keep_epochs=not config.subset.debug)
    ordered = [
        rehearsal,
        LambdaCallback(on_train_start=prepare_files),  # after the rehearsal, so that a failed one changes no file
        MovingAverage(training.ema_decay, warmup=training.ema_warmup) if training.ema_decay else None,
        RunDescription(config) if logged else None,
        HistogramLog() if logged else None,
        ScalarLog(frequency=logs.log_frequency, layers=logs.log_layers, pace=pace) if logged else None,
        ImageLog(logs.log_images_frequency) if logs.log_images else None,
        MemoryMonitor(rehearsal) if logs.memory_monitor else None,
        *callbacks,
        pace,
        RunEstimate(config, pace, precision=machine.precision),
        history,
        EpochLines(history),
        stopping,
        files,
    ]
    wanted = [callback for callback in ordered if callback is not None]
    trainer = build_trainer(config, machine, loggers=logged, callbacks=wanted)
    resumed = None if epochs_before is None else training.checkpoint
    with explained(trainer, config):
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    if module.skipped:
        skipped = counted(len(module.skipped), "image was", "images were")
        log.warning("%s unreadable and skipped; one: %s", skipped, min(module.skipped))
    folder = training.output_dir
    log.info("trained to epoch %d in %.0f s; files are in %s", trainer.current_epoch, files.seconds, folder)
    if files.best_epoch:
        best = folder / BEST
        where = best if best.exists() else "in the folder of the resumed run"
        log.info("the best AP, %.3f, is from epoch %d: %s", files.best_ap, files.best_epoch, where)
    if run_data.test is not None:
        _detect_in_test_images(trainer, module, data)
    return module.metrics


def _with_white_level(config: Config, train: SplitData) -> Config:
    """Return the config with the white level of deep training images, and log it; images of 8 bits need none."""
    found = survey(train.folder, [] if train.download else train.annotations.images.file_names)
    pictures = counted(found.looked_at, "picture")
    if found.framed:
        log.warning("%d of %s have several frames; only the first is used", found.framed, pictures)
    if not found.deep or config.data.white_level is not None:
        return config
    level = found.white_level
    text = "%d of %s have more than 8 bits; their white level, from the largest value, is %g (--white_level)"
    log.info(text, found.deep, pictures, level)
    return config.replace(white_level=level)


def _check_multi_scale(config: Config, *, patch: int) -> None:
    """Raise `InputError` if multi_scale allows no size but the image size."""
    change, size = config.augmentation.multi_scale, config.data.image_size
    if config.augmentation.augmentation and change and len(config.augmentation.input_sizes(size, patch)) == 1:
        least = math.ceil(100 * patch / max(size)) / 100
        problem = f"multi_scale {change:g} changes image_size {size} by less than a patch of {patch} pixels"
        raise InputError(f"{problem}; give at least {least:g}, or 0")


def _detect_in_test_images(trainer: Trainer, module: DetectorModule, data: DetectionData) -> None:
    module.skipped.clear()
    trainer.predict(module, datamodule=data, return_predictions=False)
    if not trainer.is_global_zero:
        return
    test = data.run_data.test.annotations
    path = write_test_results(module.test_results, test, data.config.training.output_dir)
    log.info("detections in %d test images are in %s", len(test.images) - len(module.skipped), path)
    for reason in unreadable_images(data.run_data, module):
        log.warning("no detections in %s", reason)


def _log_plan(detector: Detector, run_data: RunData, machine: Machine, *, images_per_epoch: int) -> None:
    """Log the sizes of data and model, and warn of settings with little use."""
    config, train, val, test = detector.config, run_data.train, run_data.val, run_data.test
    parameters = list(detector.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    counts = [
        f"{len(split.annotations.images):,} {name} images"
        for name, split in (("training", train), ("validation", val), ("test", test))
        if split is not None
    ]
    if images_per_epoch > len(train.annotations.images):
        counts[0] += f" ({images_per_epoch:,} an epoch, with repeats of rare classes)"
    backbone, trains = detector.backbone, config.backbone.train_backbone
    part = f"backbone layers {backbone.trunk_depth} to {backbone.depth - 1} of {backbone.depth}, counted from 0"
    if backbone.trunk_depth == backbone.depth:
        part = "none of the backbone"
    elif trains == "lora":
        part = f"adapters in {part}"
    processes = f" in {machine.processes} processes" if machine.processes > 1 else ""
    log.info(
        "%s, %s; %s of %s parameters train, %s; on %s%s, precision %s",
        *(", ".join(counts), counted(len(detector.categories), "class", "classes"), f"{trained:,}", f"{total:,}"),
        *(part, machine.device, processes, machine.precision),
    )
    if config.backbone.backbone_weights == "random" and trains != "full":
        text = "the backbone has random weights, and --train_backbone %s never trains them; give --train_backbone full"
        log.warning(text, trains)
    epochs, augmentation = config.training.epochs, config.augmentation
    plain = epochs - augmentation.no_augment_from(epochs)
    if augmentation.augmentation and plain > 0:
        text = "the last %s of %d show whole images without objects of other images (--no_augment_fraction %g)"
        log.info(text, counted(plain, "epoch"), epochs, augmentation.no_augment_fraction)
    if val is None:
        remedy = "--val_fraction 0.2 takes some of the training images, --val_images and --val_annotations name others"
        log.info("there is no evaluation, because there are no validation images; %s", remedy)
    elif not len(val.annotations.training.labels):
        log.warning("%s has no boxes, so there is no AP and no best checkpoint", val.annotations.path)
    else:
        found = most_detections(config.decoder.num_queries)
        val.annotations.warn_of_limit(config.evaluation.max_detections, found=found)


def _warn_of_queries(detector: Detector, train: SplitData) -> None:
    """Warn if there are fewer queries than boxes in an image, or fewer places for queries than queries."""
    config, patch = detector.config, detector.backbone.patch_size
    queries = config.decoder.num_queries
    boxes = np.sort(np.diff(train.annotations.training.starts))  # [I]
    mosaics = config.augmentation.augmentation and config.augmentation.mosaic_probability > 0
    most = int(boxes[-4:].sum() if mosaics else boxes[-1])
    if most > queries:
        text = "there are %s with up to %d boxes, and --num_queries %d can't find more than %d; give %d or more"
        log.warning(text, "mosaics" if mosaics else "images", most, queries, queries, most)
    height, width = config.augmentation.input_sizes(config.data.image_size, patch)[0]
    grid = height // patch, width // patch
    cells = sum(math.ceil(grid[0] * scale) * math.ceil(grid[1] * scale) for scale in config.decoder.feature_scales)
    if config.decoder.two_stage and cells < queries:
        text = "images of %dx%d pixels have %d feature cells, so at most %d of the --num_queries %d are used"
        remedy = "give a larger --image_size or more --feature_scales"
        log.warning(f"{text}; {remedy}", height, width, cells, cells, queries)
