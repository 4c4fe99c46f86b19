"""An annotation file as columns, in which anything may be missing or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from dino_detector.data.coco.findings import Finding

Id = int | str | None
"""an id as the file gives it: a whole number, or a text in its place; None if it is missing"""


def every(flags: np.ndarray) -> np.ndarray:
    """Return ``flags.all(axis=1)`` ``[M]`` for bool flags ``[M, K]``, ten times as fast where K is small."""
    return reduce(np.logical_and, flags.T)


def some(flags: np.ndarray) -> np.ndarray:
    """Return ``flags.any(axis=1)`` ``[M]`` for bool flags ``[M, K]``, as fast as `every`."""
    return reduce(np.logical_or, flags.T)


@dataclass
class ImageColumns:
    """The entries of ``images``, I of them.

    Attributes:
        ids: ids.
        names: file names, None if missing.
        sizes: ``[I, 2]`` float64 width and height in pixels, NaN if unknown.
        addresses: URLs of the pictures, None if missing.
    """

    ids: list[Id]
    names: list[str | None]
    sizes: np.ndarray
    addresses: list[str | None]

    def label(self, index: int) -> str:
        """Return the file name of an image, or else its id."""
        return self.names[index] or f"image {self.ids[index]}"


@dataclass
class BoxColumns:
    """The entries of ``annotations``, M of them.

    Attributes:
        ids: ids, None if missing.
        image: ``[M]`` int64 position of the image in its list, -1 if unknown.
        category: ``[M]`` int64 position of the category in its list, -1 if unknown.
        xywh: ``[M, 4]`` float64 pixels, NaN if the box is not four finite numbers.
        crowd: ``[M]`` bool.
        area: ``[M]`` float64 square pixels, NaN if unknown.
    """

    ids: list[Id]
    image: np.ndarray
    category: np.ndarray
    xywh: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


def entry_label(ids: list[Id], index: int) -> Id:
    """Return the id of an entry, or else its position in the list from 0."""
    return ids[index] if ids[index] is not None else f"entry {index}"


@dataclass
class CategoryColumns:
    """The entries of ``categories``, C of them.

    Attributes:
        ids: ids, None if missing.
        names: class names.
        parents: supercategories, None if missing.
        listed: the file lists categories; otherwise these are the ids that annotations refer to.
    """

    ids: list[Id]
    names: list[str]
    parents: list[str | None]
    listed: bool = True


@dataclass
class Split:
    """An annotation file in columns.

    Attributes:
        name: train, val, test, or the name of the file.
        path: the annotation file.
        images: the images.
        boxes: the annotations.
        categories: the classes.
        labelled: False for a list of images that has no annotations by intent.
        images_dir: folder of the images, or None if unknown.
    """

    name: str
    path: Path
    images: ImageColumns
    boxes: BoxColumns
    categories: CategoryColumns
    labelled: bool = True
    images_dir: Path | None = None

    @property
    def num_boxes(self) -> int:
        """Annotations of single objects, without crowd regions."""
        return int((~self.boxes.crowd).sum())

    def with_boxes(self, xywh: np.ndarray) -> Split:
        """Return the split with other boxes ``[M, 4]``."""
        return replace(self, boxes=replace(self.boxes, xywh=xywh))

    @cached_property
    def box_image_sizes(self) -> np.ndarray:
        """``[M, 2]`` width and height of the image of each box, NaN if unknown."""
        known = np.vstack([self.images.sizes, [np.nan, np.nan]])  # position -1 is the last
        return known[self.boxes.image]

    @cached_property
    def clipped_xyxy(self) -> np.ndarray:
        """``[M, 4]`` corner boxes in pixels, clipped to images of known size."""
        near = self.boxes.xywh[:, :2]
        far = near + self.boxes.xywh[:, 2:]
        limits = np.nan_to_num(self.box_image_sizes, nan=np.inf)
        return np.hstack([near.clip(0, limits), far.clip(0, limits)])

    @cached_property
    def usable(self) -> np.ndarray:
        """``[M]`` bool: boxes with an area inside a known image, crowd regions too."""
        width, height = (self.clipped_xyxy[:, 2:] - self.clipped_xyxy[:, :2]).T
        with np.errstate(invalid="ignore"):
            has_size = (width > 0) & (height > 0) & every(self.boxes.xywh[:, 2:] > 0)
        return has_size & (self.boxes.image >= 0)

    @cached_property
    def trained(self) -> np.ndarray:
        """``[M]`` bool: boxes to train on: usable, of a known class, no crowd."""
        return self.usable & ~self.boxes.crowd & (self.boxes.category >= 0)

    def find_boxes(self, kind: str, rows: Any, note: str = "", *, total: int | None = None, **details: Any) -> Finding:
        """Return a finding about annotations; ``rows`` are positions or a mask ``[M]``, ``details`` as in `Finding`."""
        ids = [entry_label(self.boxes.ids, row) for row in _positions(rows)]
        total = len(self.boxes.ids) if total is None else total
        return Finding(kind, self.name, len(ids), total, "boxes", ids, note, **details)

    def find_images(self, kind: str, rows: Any, note: str = "", **details: Any) -> Finding:
        """Return a finding about images; ``rows`` are positions or a mask ``[I]``, ``details`` as in `Finding`."""
        names = [self.images.label(row) for row in _positions(rows)]
        return Finding(kind, self.name, len(names), len(self.images.ids), "images", names, note, **details)


def _positions(rows: np.ndarray | Sequence[int]) -> list[int]:
    rows = np.asarray(rows)
    return (np.flatnonzero(rows) if rows.dtype == bool else rows).tolist()
