"""Detections in every image by a detector that did not train on it.

The images are divided into folds. For each fold, a detector trains on the images of the other folds and detects in the
images of the fold. Near-copies are in one fold. All detectors have one frozen trunk, so its cached outputs serve all of
them.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dino_detector.config import Config
from dino_detector.data.holdout import near_copies
from dino_detector.errors import InputError, StoppedByUser
from dino_detector.labelling.labelled_data import JoinedData
from dino_detector.plain_text import counted
from dino_detector.storage.files import read_json
from dino_detector.training.fit import fit

log = logging.getLogger(__name__)

PER_RUN = {
    **dict.fromkeys(("data", "checkpoint", "testdev_images", "val_fraction", "num_classes", "tile_size", "log_dir")),
    **dict.fromkeys(("coco_mini_indices_file", "resume_from", "cache_views")),
    **dict.fromkeys(("download_train_data", "download_val_data", "download_test_data", "only_evaluate"), False),
    **dict.fromkeys(("skip_checkpoint_load", "use_coco_mini", "test_mini", "debug", "distributed"), False),
    **dict.fromkeys(("log_images", "memory_monitor"), False),
    **{"logger": [], "early_stopping_patience": 0, "world_size": None, "keep_empty_classes": True},
}
"""settings of a run that belong to its data, its files and its processes, and not to its detector"""
ONE_IMAGE_A_VIEW = ("copy_paste_probability", "mosaic_probability", "multi_scale")
"""augmentation with objects of other images, or with other sizes: the views of two folds would differ"""


def divide(folder: Path, names: list[str], *, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each image, ``[I]`` int64; near-copies share one, and folds are of about equal size.

    Raises:
        InputError: the images form fewer groups than there are folds.
    """
    groups = near_copies(folder, names)
    sizes = np.bincount(groups)
    if len(sizes) < folds:
        different = counted(len(sizes), "image that differs", "images that differ")
        raise InputError(f"{folder}: has {different} from the others, and --folds {folds} needs {folds}; add images")
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of_group, filled = np.zeros(len(sizes), np.int64), np.zeros(folds, np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:  # the large groups first, each into the emptiest fold
        fold_of_group[group] = filled.argmin()
        filled[filled.argmin()] += sizes[group]
    return fold_of_group[groups]


def detect_by_others(
    data: JoinedData, fold_of: np.ndarray, config: Config, *, work: Path, cache: Path | None
) -> dict[int, list[dict[str, Any]]]:
    """Return the detections in each image, by the id of the image, as COCO results.

    Args:
        data: images and labels.
        fold_of: ``[I]`` fold of each image.
        config: settings of the detectors and of their training.
        work: folder for the files of the runs, which are removed.
        cache: folder of the trunk cache; None for detectors without a frozen trunk.

    Raises:
        InputError: training is not possible with these images and settings.
        StoppedByUser: a signal stopped a run.
    """
    shared = PER_RUN | {"val_frequency": config.training.epochs, "cache_trunk": None if cache is None else str(cache)}
    if cache is not None:
        shared |= dict.fromkeys(ONE_IMAGE_A_VIEW, 0.0)
    known = config.flat()
    base = config.replace(**{name: value for name, value in shared.items() if name in known})
    folds = int(fold_of.max()) + 1
    found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data.images}
    for fold in range(folds):
        started = time.monotonic()
        held_out = fold_of == fold
        counts = f"{(~held_out).sum():,}", f"{held_out.sum():,}"
        log.info("fold %d of %d: train on %s images, detect in %s", fold + 1, folds, *counts)
        with tempfile.TemporaryDirectory(dir=work, prefix=".fold-") as folder:
            for row in _results(base, data, held_out, Path(folder)):
                found[row["image_id"]].append(row)
        log.info("fold %d of %d took %.0f s", fold + 1, folds, time.monotonic() - started)
    return found


def _results(base: Config, data: JoinedData, held_out: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """Train on the images that are not held out; return the detections in the others."""
    paths = {}
    for name, chosen in (("train", ~held_out), ("val", held_out)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(data.part(chosen)), encoding="utf-8")
        paths |= {f"{name}_images": str(data.folder), f"{name}_annotations": str(path)}
    config = base.replace(**paths, output_dir=str(folder / "run"))
    try:
        with _quiet():
            fit(config)
    except StoppedByUser as stop:
        raise StoppedByUser("stopped; no result was written", stop.number) from None
    (predictions,) = (folder / "run").glob("val_predictions_epoch_*.json")
    return read_json(predictions)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the lines of a run that is a part of a larger task; warnings stay."""
    loggers = [logging.getLogger(f"dino_detector.{name}") for name in ("training", "data", "storage")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
