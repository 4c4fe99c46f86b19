"""COCO detection annotations: checked, in arrays, and turned into the boxes that a detector trains on.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from msgspec import UNSET

from dino_detector.data.categories import Categories
from dino_detector.data.coco_file import (
    WHOLE_NUMBERS,
    AnnotationEntry,
    CategoryEntry,
    CocoFile,
    ImageEntry,
    coco_file,
    read_coco_file,
)
from dino_detector.data.image_table import ImageTable
from dino_detector.data.known_sets import COCO_2017
from dino_detector.errors import InputError
from dino_detector.files import paused_collection

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotationTable:
    """All annotations in the order of the file, crowd regions too.

    Attributes:
        ids: ``[M]`` int64, above 0, as pycocotools takes 0 for "no match".
        image_indices: ``[M]`` int64, positions of their images in the file.
        labels: ``[M]`` int64.
        boxes_xywh: ``[M, 4]`` float64 pixels, as the file has them.
        areas: ``[M]`` float64 square pixels, width x height where the file has none.
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
        """Some rows ``[N]``, in that order."""
        return AnnotationTable(**{name: column[rows] for name, column in vars(self).items()})


class BoxTable(NamedTuple):
    """Boxes of all images in three arrays, which worker processes share at no cost; image i owns a range of rows.

    Attributes:
        boxes_xyxy: ``[M, 4]`` float32 pixels, clipped to the image.
        labels: ``[M]`` int64.
        starts: ``[I + 1]`` int64; rows ``starts[i]:starts[i + 1]`` belong to image i.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    starts: np.ndarray

    def of(self, index: int) -> tuple[Tensor, Tensor]:
        """Boxes ``[N, 4]`` float32 and labels ``[N]`` int64 of the image at ``index``."""
        import torch  # late, as reading a file does without it

        rows = slice(self.starts[index], self.starts[index + 1])
        return torch.tensor(self.boxes_xyxy[rows]), torch.tensor(self.labels[rows])


@dataclass(frozen=True)
class CocoAnnotations:
    """A COCO detection file that has been checked.

    Attributes:
        path: the file.
        images: every image of the file in its order, those without annotations too.
        categories: ids and names of the classes.
        entries: all annotations.
        training: boxes to train on: crowd regions and boxes that clipping leaves empty are not among them.
    """

    path: Path
    images: ImageTable
    categories: Categories
    entries: AnnotationTable
    training: BoxTable

    @classmethod
    def read(cls, path: Path | str) -> CocoAnnotations:
        """Read and check a COCO detection JSON.

        Raises:
            InputError: the file is missing, not JSON or not COCO; an id repeats or refers to nothing; a box is not
                four finite numbers, has no size or lies outside its image.
        """
        with paused_collection():
            return _Check(Path(path)).checked(read_coco_file(Path(path)))

    @classmethod
    def parse(cls, content: dict[str, Any], path: Path) -> CocoAnnotations:
        """Check the content of a COCO detection JSON; as `read`, with ``path`` for messages."""
        with paused_collection():
            return _Check(path).checked(coco_file(content, path))

    @cached_property
    def ground_truth(self) -> dict[str, Any]:
        """The data set as JSON for evaluators, with ``iscrowd``, ``area`` and ``id`` filled in where absent."""
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
        """The entries of ``ground_truth["annotations"]`` that belong to an image, crowd regions too."""
        rows, starts = self._rows_by_image
        index = self._index_of[image_id]
        return self._as_json(self.entries.at(rows[starts[index] : starts[index + 1]]))

    def training_boxes(self, image_id: int) -> tuple[Tensor, Tensor]:
        """Boxes ``[N, 4]`` (xyxy, float32 pixels, clipped to the image) and labels ``[N]`` int64 to train on."""
        return self.training.of(self._index_of[image_id])

    def restricted_to(self, image_ids: Iterable[int]) -> CocoAnnotations:
        """These images alone with all that belongs to them, in the order of the images; categories stay."""
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

    def check_files(self, images_dir: Path | str) -> None:
        """Raise `InputError` if the folder or an image file is missing; names the first and counts the others."""
        images_dir = Path(images_dir)
        if not images_dir.is_dir():
            raise InputError(f"{images_dir}: no such folder of images; correct the path")
        names = self.images.file_names
        parts = (name.rpartition("/") for name in names)  # many times as fast as Path, for as many
        places = [(folder or slash, name) for folder, slash, name in parts]
        there = {folder: _listed(images_dir / folder) for folder in {folder for folder, _ in places}}
        missing = [
            index
            for index, (folder, name) in enumerate(places)
            if name not in there[folder] and not (images_dir / names[index]).is_file()
        ]
        if missing:
            first = self.images[missing[0]]
            raise InputError(
                f"{images_dir / first.file_name}: file of image {first.image_id} in {self.path} is missing "
                f"({len(missing)} of {len(self.images)} image files are); correct the folder, add the files or remove "
                "the images from the annotations"
            )

    @cached_property
    def _index_of(self) -> dict[int, int]:
        return {image_id: index for index, image_id in enumerate(self.images.ids.tolist())}

    @cached_property
    def _rows_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ``entries``, image by image and in the order of the file, and where each image begins in them."""
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


def _listed(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208  ten times as fast as Path.iterdir
    except OSError:
        return set()


class _Check:
    """Checks what entries of one file say of each other; every failure names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str) -> NoReturn:
        raise InputError(f"{self.path}: {problem}")

    def checked(self, content: CocoFile) -> CocoAnnotations:
        """The tables of a file."""
        if not content.images:
            self.fail('"images" is empty; add at least one image')
        images = self.images(content.images)
        categories = self.categories(content.categories)
        entries = self.entries(content.annotations, images, categories)
        boxes = self.clipped_boxes(entries, content.annotations, images, flat_is_known=content.description == COCO_2017)
        keep = ~entries.is_crowd & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        order = np.argsort(entries.image_indices, kind="stable")
        trained = order[keep[order]]
        starts = np.searchsorted(entries.image_indices[trained], np.arange(len(images) + 1))
        return CocoAnnotations(
            path=self.path,
            images=images,
            categories=categories,
            entries=entries,
            training=BoxTable(boxes[trained], entries.labels[trained], starts),
        )

    def images(self, entries: list[ImageEntry]) -> ImageTable:
        ids, names, heights, widths = (
            [*map(attrgetter(name), entries)] for name in ("id", "file_name", "height", "width")
        )
        self.check_unique("image", ids)
        return ImageTable.of(ids, names, [*zip(heights, widths, strict=True)])

    def categories(self, entries: list[CategoryEntry]) -> Categories:
        self.check_unique("category", [entry.id for entry in entries])
        ordered = sorted(entries, key=lambda entry: entry.id)
        return Categories(tuple(entry.id for entry in ordered), tuple(entry.name for entry in ordered))

    def entries(self, entries: list[AnnotationEntry], images: ImageTable, categories: Categories) -> AnnotationTable:
        def column(name: str) -> np.ndarray:
            return np.fromiter(map(attrgetter(name), entries), np.int64, len(entries))

        def positions(name: str, known: np.ndarray, listed: str) -> np.ndarray:
            referred = column(f"{name}_id")
            order = np.argsort(known)
            found = order[np.searchsorted(known[order], referred).clip(max=len(known) - 1)] if len(known) else referred
            unknown = known[found] != referred if len(known) else np.ones(len(referred), bool)
            if unknown.any():
                first = int(np.flatnonzero(unknown)[0])
                self.fail(
                    f'{entries[first].named(first)} refers to {name} {referred[first]}, which is not in "{listed}"; '
                    f"remove the annotation or add the {name}"
                )
            return found

        image_indices = positions("image", images.ids, "images")
        labels = positions("category", np.array(categories.ids, np.int64), "categories")
        boxes = np.fromiter(
            itertools.chain.from_iterable(map(attrgetter("bbox"), entries)), np.float64, 4 * len(entries)
        ).reshape(-1, 4)
        areas = np.array([entry.area for entry in entries], np.float64)  # NaN where there is none
        return AnnotationTable(
            ids=self.annotation_ids(entries),
            image_indices=image_indices,
            labels=labels,
            boxes_xywh=boxes,
            areas=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas),
            is_crowd=column("iscrowd").astype(bool),
        )

    def annotation_ids(self, entries: list[AnnotationEntry]) -> np.ndarray:
        """Ids above 0: all of them moved where one is not, and new ones for entries without one.

        Where those would not be of 64 bits, all are new.
        """
        ids = [entry.id for entry in entries]
        given = [one for one in ids if one is not UNSET]
        self.check_unique("annotation", given)
        shift = max(0, 1 - min(given, default=1))
        first_new = max(given, default=0) + shift + 1
        if first_new + len(ids) - len(given) > WHOLE_NUMBERS.stop:
            return np.arange(1, len(ids) + 1)
        free = itertools.count(first_new)
        return np.array([next(free) if one is UNSET else one + shift for one in ids], np.int64)

    def clipped_boxes(
        self, table: AnnotationTable, entries: list[AnnotationEntry], images: ImageTable, *, flat_is_known: bool
    ) -> np.ndarray:
        """Boxes ``[M, 4]`` xyxy float32, clipped to their images; of zero size only where that is known of a file."""
        boxes_xywh, sizes = table.boxes_xywh, images.sizes[table.image_indices, ::-1].astype(np.float64)
        near, far = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]

        def first_of(rows: np.ndarray) -> tuple[str, int]:
            first = int(np.flatnonzero(rows)[0])
            return entries[first].named(first), first

        def reject(bad: np.ndarray, problem: str) -> None:
            if bad.any():
                name, first = first_of(bad)
                record = images[table.image_indices[first]]
                bbox = ", ".join(f"{number:.12g}" for number in entries[first].bbox)
                others = f" ({bad.sum() - 1} more like it)" if bad.sum() > 1 else ""
                self.fail(
                    f"{name} of image {record.image_id} ({record.width} x {record.height} pixels) has bbox "
                    f"[{bbox}], which {problem}{others}; correct the bbox or remove the annotation"
                )

        reject(~np.isfinite(boxes_xywh).all(axis=1), "is not finite")
        reject((boxes_xywh[:, 2:] < 0).any(axis=1), "has a negative size")
        flat = (boxes_xywh[:, 2:] == 0).any(axis=1)
        if not flat_is_known:
            reject(flat, "has zero size")
        elif flat.any():
            name, _ = first_of(flat)
            log.warning("%s: %d boxes have zero size and are not trained on, first %s", self.path, flat.sum(), name)
        reject(((near >= sizes) | (far <= 0)).any(axis=1), "lies outside the image")
        beyond = ((near < -1) | (far > sizes + 1)).any(axis=1)
        if beyond.any():
            name, _ = first_of(beyond)
            log.warning(
                "%s: %d boxes reach beyond their image and are clipped for training, first %s",
                self.path,
                beyond.sum(),
                name,
            )
        return np.concatenate([near.clip(0, sizes), far.clip(0, sizes)], axis=1).astype(np.float32)

    def check_unique(self, kind: str, ids: Sequence[int]) -> None:
        if len(set(ids)) == len(ids):
            return
        seen: set[int] = set()
        for value in ids:
            if value in seen:
                self.fail(f"{kind} id {value} appears more than once; give each {kind} its own id")
            seen.add(value)
