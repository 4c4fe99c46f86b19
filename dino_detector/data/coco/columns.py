"""An annotation file as columns; values may be missing or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dino_detector.data.coco.findings import Finding

Id = int | str | None
"""an id as the file gives it: a whole number, or a text in its place; None if it is missing"""


@dataclass
class ImageColumns:
    """The entries of ``images``, I of them.

    Attributes:
        sizes: ``[I, 2]`` float64 width and height in pixels, NaN if unknown.
        addresses: URLs of the pictures.
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
        image: ``[M]`` int64 position of the image in its list, -1 if unknown.
        category: ``[M]`` int64 position of the category in its list, -1 if unknown.
        xywh: ``[M, 4]`` float64 pixels, NaN if the box is not four finite numbers.
        crowd: ``[M]`` bool.
        area: ``[M]`` float64 square pixels, NaN if unknown.
        places: the place of each annotation in the files of another format, whose ids are made up; None for COCO.
    """

    ids: list[Id]
    image: np.ndarray
    category: np.ndarray
    xywh: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    places: Sequence[str] | None = None

    def label(self, row: int) -> Id:
        """Return the place of an annotation, or its id, or else its position in the list from 0."""
        return entry_label(self.ids, row) if self.places is None else self.places[row]


@dataclass
class CategoryColumns:
    """The entries of ``categories``, C of them.

    Attributes:
        parents: supercategories.
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
        labelled: False for a list of images that has no annotations by intent.
        images_dir: folder of the images, or None if unknown.
        format: key of `dino_detector.data.formats.reading.FORMATS`.
    """

    name: str
    path: Path
    images: ImageColumns
    boxes: BoxColumns
    categories: CategoryColumns
    labelled: bool = True
    images_dir: Path | None = None
    format: str = "COCO"

    @property
    def num_boxes(self) -> int:
        """Annotations of single objects, without crowd regions."""
        return int((~self.boxes.crowd).sum())

    @cached_property
    def box_image_sizes(self) -> np.ndarray:
        """``[M, 2]`` width and height of the image of each box, NaN if unknown."""
        known = np.vstack([self.images.sizes, [np.nan, np.nan]])  # position -1 is the last
        return known[self.boxes.image]

    @cached_property
    def clipped_xyxy(self) -> np.ndarray:
        """``[M, 4]`` corner boxes in pixels, clipped to images of known size."""
        return clipped_xyxy(self.boxes.xywh, np.nan_to_num(self.box_image_sizes, nan=np.inf))

    @cached_property
    def usable(self) -> np.ndarray:
        """``[M]`` bool: boxes with an area inside a known image, crowd regions too."""
        xyxy = self.clipped_xyxy.astype(np.float32)  # as in training
        sides = xyxy[:, 2:] - xyxy[:, :2]
        with np.errstate(invalid="ignore"):
            return ((sides > 0) & (self.boxes.xywh[:, 2:] > 0)).all(axis=1) & (self.boxes.image >= 0)

    @cached_property
    def trained(self) -> np.ndarray:
        """``[M]`` bool: boxes to train on: usable, of a known class, no crowd."""
        return self.usable & ~self.boxes.crowd & (self.boxes.category >= 0)

    def find_boxes(self, kind: str, rows: Any, note: str = "", *, total: int | None = None, **details: Any) -> Finding:
        """Return a finding about annotations; ``rows`` are positions or a mask ``[M]``, ``details`` as in `Finding`."""
        ids = [self.boxes.label(row) for row in _positions(rows)]
        total = len(self.boxes.ids) if total is None else total
        return Finding(kind, self.name, len(ids), total, "boxes", ids, note, **details)

    def find_images(self, kind: str, rows: Any, note: str = "", **details: Any) -> Finding:
        """Return a finding about images; ``rows`` are positions or a mask ``[I]``, ``details`` as in `Finding`."""
        names = [self.images.label(row) for row in _positions(rows)]
        return Finding(kind, self.name, len(names), len(self.images.ids), "images", names, note, **details)


def clipped_xyxy(boxes_xywh: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return corner boxes ``[N, 4]`` of boxes ``[N, 4]``, clipped to widths and heights ``[N, 2]``."""
    near = boxes_xywh[:, :2]
    return np.hstack([near.clip(0, sizes), (near + boxes_xywh[:, 2:]).clip(0, sizes)])


def entry_label(ids: list[Id], index: int) -> Id:
    """Return the id of an entry, or else its position in the list from 0."""
    return ids[index] if ids[index] is not None else f"entry {index}"


def _positions(rows: np.ndarray | Sequence[int]) -> list[int]:
    rows = np.asarray(rows)
    return (np.flatnonzero(rows) if rows.dtype == bool else rows).tolist()
