"""Data of a run from data sets in memory, in place of files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dino_detector.config import Config
from dino_detector.data.items import ItemImages, Items, categories_of
from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories
from dino_detector.training.run_data import EVALUATED_ANNOTATIONS, VAL_ANNOTATIONS, RunData, SplitData, cut_down

log = logging.getLogger(__name__)

OF_FILES = (
    *("data", "train_images", "train_annotations", "val_images", "val_annotations", "testdev_images"),
    *("download_train_data", "download_val_data", "download_test_data", "use_coco_mini", "test_mini"),
)
"""settings that name files"""


class ItemData:
    """Reads the data of a run from data sets in memory; an instance takes the place of `read_run_data`.

    Args:
        train: the training data set; None for an evaluation.
        val: the validation data set; None trains without evaluation.
        classes: see `data.items.categories_of`; None takes the classes of the evaluated detector.
    """

    def __init__(self, train: Any, val: Any, classes: Sequence[str] | Mapping[int, str] | None) -> None:
        self.train = train
        self.val = val
        self.categories = None if classes is None else categories_of(classes)

    def __call__(self, config: Config, *, training: bool, categories: Categories | None = None, **_: Any) -> RunData:
        """Read and check every item once.

        Raises:
            InputError: an item is wrong, or a setting names files.
        """
        settings = config.flat()
        if given := [name for name in OF_FILES if settings[name]]:
            raise InputError(f"{given[0]} names files, and the data set is in memory; leave one out")
        known = self.categories or categories
        assert known is not None
        train = None if self.train is None else self._read(config, self.train, known, "train")
        if train is not None:
            train.annotations.require_boxes()
            self._warn_of_labels(train, known)
        val = train if config.subset.debug else None
        if val is None and self.val is not None:
            val = self._read(config, self.val, known, "val")
        return RunData(train, val, None)

    def _read(self, config: Config, data: Any, known: Categories, split: str) -> SplitData:
        items, folder, debug = Items(data, known, split=split), config.training.output_dir, config.subset.debug
        truth = folder / (EVALUATED_ANNOTATIONS if self.train is None else VAL_ANNOTATIONS)
        whole = items.annotations(truth if split == "val" or debug else Path(items.name))
        part, subset = whole, None
        if debug:
            part, subset = cut_down(config, whole, split)
        images = ItemImages(items, part, fixed=split == "val" or debug)
        return SplitData(folder / "val_images", part, split, subset=subset, items=images)

    def _warn_of_labels(self, train: SplitData, known: Categories) -> None:
        labels = np.unique(train.annotations.training.labels)
        if known.ids == tuple(range(len(known))) and len(known) > 1 and len(labels) and labels[0] > 0:
            text = "no item of the training data set has label 0, %s; if labels start at 1, give classes={1: %r, ...}"
            log.warning(text, known.names[0], known.names[0])
