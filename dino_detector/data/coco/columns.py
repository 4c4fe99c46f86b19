"""An annotation file as columns, in which anything may be missing or wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path

import numpy as np

Id = int | str | None
"""an id as a file gives it: a whole number, or any text that stands for one; None where there is none"""


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
        names: file names, None where there is none.
        sizes: ``[I, 2]`` float64 width and height in pixels, NaN where they are no positive numbers.
        addresses: where the picture comes from, None where that is not said.
    """

    ids: list[Id]
    names: list[str | None]
    sizes: np.ndarray
    addresses: list[str | None]

    def label(self, index: int) -> str:
        """What to call an image: its file name, or else its id."""
        return self.names[index] or f"image {self.ids[index]}"


@dataclass
class BoxColumns:
    """The entries of ``annotations``, M of them.

    Attributes:
        ids: ids; None where there is none.
        image: ``[M]`` int64 position of the image in its list, -1 where it is unknown.
        category: ``[M]`` int64 position of the category in its list, -1 where it is unknown.
        xywh: ``[M, 4]`` float64 pixels, NaN where the box is not four finite numbers.
        crowd: ``[M]`` bool.
        area: ``[M]`` float64, NaN where there is none.
    """

    ids: list[Id]
    image: np.ndarray
    category: np.ndarray
    xywh: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    def label(self, index: int) -> Id:
        """Return the `entry_label` of an annotation."""
        return entry_label(self.ids, index)


def entry_label(ids: list[Id], index: int) -> Id:
    """Return what to call an entry of a list: its id, or else its place in the list, counted from 0."""
    return ids[index] if ids[index] is not None else f"entry {index}"


@dataclass
class CategoryColumns:
    """The entries of ``categories``, C of them.

    Attributes:
        ids: ids, None where there is none.
        names: class names.
        parents: supercategories, None where there is none.
        listed: whether the file lists categories; otherwise these are the ids that annotations refer to.
    """

    ids: list[Id]
    names: list[str]
    parents: list[str | None]
    listed: bool = True


@dataclass
class Split:
    """One annotation file, read.

    Attributes:
        name: what the split is for: train, val, test, or the name of the file.
        path: the annotation file.
        images_dir: folder of the images, or None where none was found.
        images: the images.
        boxes: the annotations.
        categories: the classes.
        labelled: false for a list of images that has no annotations by intent.
    """

    name: str
    path: Path
    images: ImageColumns
    boxes: BoxColumns
    categories: CategoryColumns
    labelled: bool = True
    images_dir: Path | None = field(default=None)

    @property
    def num_boxes(self) -> int:
        """Annotations of single objects; crowd regions are not counted."""
        return int((~self.boxes.crowd).sum())

    def with_boxes(self, xywh: np.ndarray) -> Split:
        """The same with other boxes ``[M, 4]``."""
        return replace(self, boxes=replace(self.boxes, xywh=xywh))

    @cached_property
    def box_image_sizes(self) -> np.ndarray:
        """``[M, 2]`` width and height of the image of each box, NaN where unknown."""
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
        """``[M]`` bool: boxes of some size that lie in a known image; crowd regions too."""
        width, height = (self.clipped_xyxy[:, 2:] - self.clipped_xyxy[:, :2]).T
        with np.errstate(invalid="ignore"):
            has_size = (width > 0) & (height > 0) & every(self.boxes.xywh[:, 2:] > 0)
        return has_size & (self.boxes.image >= 0)

    @cached_property
    def trained(self) -> np.ndarray:
        """``[M]`` bool: boxes to train on: usable, of a known class, no crowd."""
        return self.usable & ~self.boxes.crowd & (self.boxes.category >= 0)
