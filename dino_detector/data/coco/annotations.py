"""COCO detection annotations as checked arrays, and the boxes to train on.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.entries import WHOLE_NUMBERS, content_of
from dino_detector.data.coco.findings import STOPS, WARNS, Finding
from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.coco.image_table import ImageTable
from dino_detector.data.coco.reader import Reading, read_entries, read_split
from dino_detector.errors import InputError
from dino_detector.storage.files import paused_collection
from dino_detector.structures.categories import Categories

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotationTable:
    """The usable annotations in the order of the file, crowd regions too.

    Attributes:
        ids: ``[M]`` int64 above 0, because pycocotools takes 0 for "no match".
        image_indices: ``[M]`` int64 positions of their images in the file.
        labels: ``[M]`` int64.
        boxes_xywh: ``[M, 4]`` float64 pixels, as in the file.
        areas: ``[M]`` float64 square pixels, width x height if the file has none.
        is_crowd: ``[M]`` bool.
    """

    ids: np.ndarray
    image_indices: np.ndarray
    labels: np.ndarray
    boxes_xywh: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: np.ndarray) -> AnnotationTable:
        """Return some rows ``[N]``, in that order."""
        return AnnotationTable(**{name: column[rows] for name, column in vars(self).items()})


class BoxTable(NamedTuple):
    """Boxes of all images in three arrays, which worker processes share; image i owns a range of rows.

    Attributes:
        boxes_xyxy: ``[M, 4]`` float32 pixels, clipped to the image.
        labels: ``[M]`` int64.
        starts: ``[I + 1]`` int64; rows ``starts[i]:starts[i + 1]`` belong to image i.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    starts: np.ndarray

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes ``[N, 4]`` float32 and labels ``[N]`` int64 of the image at ``index``."""
        rows = slice(self.starts[index], self.starts[index + 1])
        return self.boxes_xyxy[rows], self.labels[rows]


@dataclass(frozen=True)
class CocoAnnotations:
    """A checked COCO detection file.

    Attributes:
        path: the file.
        images: every image in the order of the file, also images without annotations.
        categories: ids and names of the classes.
        entries: the usable annotations, crowd regions too.
        training: boxes to train on, without crowd regions and boxes that clipping leaves empty.
    """

    path: Path
    images: ImageTable
    categories: Categories
    entries: AnnotationTable
    training: BoxTable

    @classmethod
    def read(cls, path: Path | str, *, images: Path | None = None) -> CocoAnnotations:
        """Read and check a COCO detection JSON; log entries that are left out and values that are filled in.

        Args:
            path: the file.
            images: folder of the images, to read sizes that the file lacks; None leaves them unknown.

        Raises:
            InputError: the file is missing, not JSON or not COCO, or has a mistake that keeps training from starting.
        """
        path = Path(path)
        with paused_collection():
            return _checked(read_split(path, path.name, find_folder=lambda _: images))

    @classmethod
    def parse(cls, content: dict[str, Any], path: Path, *, images: Path | None = None) -> CocoAnnotations:
        """Check the content of a COCO detection JSON like `read`; messages name ``path``."""
        with paused_collection():
            return _checked(read_entries(content_of(content, path), path, path.name, find_folder=lambda _: images))

    @cached_property
    def ground_truth(self) -> dict[str, Any]:
        """The data set as JSON for evaluators, with missing ``iscrowd``, ``area`` and ``id`` filled in."""
        images = [
            {"id": record.image_id, "file_name": record.file_name, "height": record.height, "width": record.width}
            for record in self.images
        ]
        named = zip(self.categories.ids, self.categories.names, strict=True)
        return {
            "info": {},
            "images": images,
            "annotations": self._as_json(self.entries),
            "categories": [{"id": category_id, "name": name} for category_id, name in named],
        }

    def annotations_of(self, image_id: int) -> list[dict[str, Any]]:
        """Return the entries of ``ground_truth["annotations"]`` of an image, crowd regions too."""
        rows, starts = self._rows_by_image
        index = self._index_of[image_id]
        return self._as_json(self.entries.at(rows[starts[index] : starts[index + 1]]))

    def training_boxes(self, image_id: int) -> tuple[Tensor, Tensor]:
        """Return boxes ``[N, 4]`` (xyxy, float32 pixels, clipped to the image) and labels ``[N]`` int64 to train on."""
        import torch  # late: reading a file does not need it

        boxes_xyxy, labels = self.training.of(self._index_of[image_id])
        return torch.tensor(boxes_xyxy), torch.tensor(labels)

    def restricted_to(self, image_ids: Iterable[int]) -> CocoAnnotations:
        """Return a selection of images with their annotations, both in the order of the file, and all categories."""
        wanted = set(image_ids)
        kept = np.flatnonzero(np.isin(self.images.ids, np.fromiter(wanted, np.int64, len(wanted))))
        assert len(kept) == len(wanted), f"{self.path}: {len(wanted) - len(kept)} of these images are not listed"
        position = np.full(len(self.images), -1)
        position[kept] = np.arange(len(kept))
        rows, starts = self._rows_by_image
        entries = self.entries.at(rows[np.repeat(position >= 0, np.diff(starts))])
        counts = np.diff(self.training.starts)
        trained = np.flatnonzero(np.repeat(position >= 0, counts))
        return replace(
            self,
            images=self.images[kept],
            entries=replace(entries, image_indices=position[entries.image_indices]),
            training=BoxTable(
                self.training.boxes_xyxy[trained], self.training.labels[trained], np.cumsum([0, *counts[kept]])
            ),
        )

    def require_boxes(self) -> None:
        """Raise `InputError` if the file has no box to train on."""
        if len(self.training.labels) == 0:
            raise InputError(
                f"{self.path}: no boxes to train on among {len(self.entries)} annotations of "
                f"{len(self.images)} images; annotate at least one object that is not a crowd"
            )

    def with_files(self, folder: Path, *, required: bool = True) -> CocoAnnotations:
        """Return the annotations with the file names that the images have in a folder; log names that differ.

        Args:
            folder: the folder of the images.
            required: raise an error if an image file is missing; False keeps the name in the annotations.

        Raises:
            InputError: the folder is missing, or an image file is; the message names the first files and counts them.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of images; correct the path")
        names = self.images.file_names
        files = find_image_files(names, folder, split=self.path.name)
        _raise_or_warn([one for one in files.findings if required or one.effect != STOPS], self.path)
        found = [name if file is None else file for name, file in zip(names, files.names, strict=True)]
        return replace(self, images=self.images.named(found)) if files.renamed else self

    @cached_property
    def _index_of(self) -> dict[int, int]:
        return {image_id: index for index, image_id in enumerate(self.images.ids.tolist())}

    @cached_property
    def _rows_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ``entries`` image by image, in the order of the file, and the start ``[I + 1]`` of each image."""
        images = self.entries.image_indices
        order = np.argsort(images, kind="stable")
        return order, np.searchsorted(images[order], np.arange(len(self.images) + 1))

    def _as_json(self, entries: AnnotationTable) -> list[dict[str, Any]]:
        categories = np.array(self.categories.ids, np.int64)
        columns = (
            entries.ids,
            self.images.ids[entries.image_indices],
            categories[entries.labels],
            entries.boxes_xywh,
            entries.areas,
            entries.is_crowd.astype(np.int64),
        )
        names = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        return [dict(zip(names, row, strict=True)) for row in zip(*(one.tolist() for one in columns), strict=True)]


def _raise_or_warn(findings: Iterable[Finding], path: Path) -> None:
    """Raise `InputError` for the first finding that stops training; log the findings that change the training data."""
    for finding in findings:
        if finding.effect == STOPS:
            raise InputError(f"{path}: {finding.sentence()}")
    for finding in findings:
        if finding.effect == WARNS:
            log.warning("%s: %s", path, finding.sentence())


def _checked(reading: Reading) -> CocoAnnotations:
    """Return the tables of a file; raise `InputError` if a mistake keeps training from starting."""
    split = reading.split
    _raise_or_warn(reading.findings, split.path)
    if not split.labelled:
        raise InputError(f'{split.path}: it has no list "annotations"; give a file of annotations')
    by_id = sorted(range(len(split.categories.ids)), key=split.categories.ids.__getitem__)
    categories = Categories(
        tuple(split.categories.ids[row] for row in by_id), tuple(split.categories.names[row] for row in by_id)
    )
    label_of = np.argsort(by_id)  # [C]
    images = ImageTable.of(split.images.ids, split.images.names, split.images.sizes[:, ::-1].astype(np.int64))
    boxes = split.boxes
    used = np.flatnonzero(split.usable)
    areas, boxes_xywh = boxes.area[used], boxes.xywh[used]
    entries = AnnotationTable(
        ids=_annotation_ids(split)[used],
        image_indices=boxes.image[used],
        labels=label_of[boxes.category[used]] if len(used) else np.zeros(0, np.int64),
        boxes_xywh=boxes_xywh,
        areas=np.where(np.isnan(areas), boxes_xywh[:, 2] * boxes_xywh[:, 3], areas),
        is_crowd=boxes.crowd[used],
    )
    by_image = np.argsort(entries.image_indices, kind="stable")
    trained = by_image[~entries.is_crowd[by_image]]
    return CocoAnnotations(
        path=split.path,
        images=images,
        categories=categories,
        entries=entries,
        training=BoxTable(
            split.clipped_xyxy.astype(np.float32)[used[trained]],
            entries.labels[trained],
            np.searchsorted(entries.image_indices[trained], np.arange(len(images) + 1)),
        ),
    )


def _annotation_ids(split: Split) -> np.ndarray:
    """Return ids ``[M]`` int64 above 0.

    If an id is 0 or less, all ids are shifted alike. Annotations without an id get new ones. If an id would not fit
    into 64 bits, the annotations are numbered from 1.
    """
    ids = split.boxes.ids
    if None not in ids and min(ids, default=1) > 0:  # the usual case, five times faster
        return np.array(ids, np.int64)
    given = [one for one in ids if one is not None]
    shift = max(0, 1 - min(given, default=1))
    first_new = max(given, default=0) + shift + 1
    if first_new + len(ids) - len(given) > WHOLE_NUMBERS.stop:
        return np.arange(1, len(ids) + 1)
    free = itertools.count(first_new)
    return np.array([next(free) if one is None else one + shift for one in ids], np.int64)
