"""COCO detection annotations as checked arrays, and the boxes to train on.

Worker processes share arrays. A list of a hundred thousand objects would be copied into every worker, page by page,
because each access changes the reference count of an object. The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.config import MAX_DETECTIONS
from dino_detector.data.coco.columns import Split, clipped_xyxy
from dino_detector.data.coco.entries import content_of
from dino_detector.data.coco.findings import STOPS, WARNS, Finding
from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.coco.reader import FindFolder, read_entries
from dino_detector.data.formats.reading import read_annotations
from dino_detector.data.formats.splits import AnnotationFile
from dino_detector.data.layouts import find_images_dir, source_of
from dino_detector.errors import InputError
from dino_detector.plain_text import quoted
from dino_detector.storage.files import paused_collection
from dino_detector.structures.categories import Categories

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


class ImageRecord(NamedTuple):
    """One entry of ``images``; height and width in pixels."""

    image_id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class ImageTable(Sequence[ImageRecord]):
    """Images by position.

    Attributes:
        ids: ``[I]`` int64.
        names: ``[I]`` bytes, file names in UTF-8.
        sizes: ``[I, 2]`` int64, height and width in pixels.
    """

    ids: np.ndarray
    names: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, ids: Sequence[int], file_names: Sequence[str], sizes: np.ndarray) -> ImageTable:
        """Make a table from columns of the same length."""
        names = [name.encode("utf-8", "surrogatepass") for name in file_names]
        return cls(np.array(ids, np.int64), np.array(names, np.bytes_), np.array(sizes, np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> ImageRecord:
        """Return the image at a position."""
        return ImageRecord(int(self.ids[index]), _decoded(self.names[index]), *self.sizes[index].tolist())

    def at(self, rows: np.ndarray) -> ImageTable:
        """Return the images at some positions, or under a mask ``[I]``."""
        return ImageTable(self.ids[rows], self.names[rows], self.sizes[rows])

    @property
    def file_names(self) -> list[str]:
        """File names of all images."""
        return [_decoded(name) for name in self.names.tolist()]


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
        """Return the rows at some positions, or under a mask ``[M]``."""
        return AnnotationTable(**{name: column[rows] for name, column in vars(self).items()})


class BoxTable(NamedTuple):
    """Boxes of all images; image i owns a range of rows.

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
        categories: the classes.
        entries: the usable annotations, crowd regions too.
        has_places: the annotations are of another format than COCO, and the ids are made up.
    """

    path: Path
    images: ImageTable
    categories: Categories
    entries: AnnotationTable
    has_places: bool = False

    @classmethod
    def read(
        cls, path: AnnotationFile | Path | str, *, images: Path | None = None, find_folder: FindFolder | None = None
    ) -> CocoAnnotations:
        """Read and check annotations; log entries that are left out and values that are filled in.

        Args:
            path: a COCO detection JSON, or the annotations of another tool; see `dino_detector.data.formats.reading`.
                A split that was found already is an `AnnotationFile`.
            images: folder of the images, to read sizes that the file lacks; None refuses a file that lacks sizes.
            find_folder: finds that folder by the names of the images.

        Raises:
            InputError: the file is missing, not JSON or not COCO, or has a mistake that keeps training from starting.
        """
        source = path if isinstance(path, AnnotationFile) else source_of(Path(path))
        source = source if images is None else source._replace(images=images)
        find = find_folder or (lambda _: images)
        with paused_collection():
            reading = read_annotations(source)
            return _checked(
                *read_entries(reading.content, source.path, source.path.name, find_folder=find, places=reading.places)
            )

    @classmethod
    def read_found(cls, source: AnnotationFile, data: Path) -> tuple[CocoAnnotations, Path]:
        """Read a split that `find_sources` found in a data set; return it with the folder of its images.

        Raises:
            InputError: as `read`; or no folder near the annotations has any of the images.
        """
        root = data if data.is_dir() else data.parent
        find_folder = partial(find_images_dir, source=source, folder=root, given=None)
        annotations = cls.read(source, images=source.images, find_folder=find_folder)
        folder = find_folder(annotations.images.file_names)
        if folder is None:
            name = quoted(annotations.images.file_names[0])
            raise InputError(
                f"{annotations.path}: the images, such as {name}, were not found near it; put them beside it"
            )
        return annotations, folder

    @classmethod
    def parse(cls, content: dict[str, Any], path: Path, *, images: Path | None = None) -> CocoAnnotations:
        """Check the content of a COCO detection JSON like `read`; messages name ``path``."""
        with paused_collection():
            return _checked(*read_entries(content_of(content, path), path, path.name, find_folder=lambda _: images))

    @cached_property
    def training(self) -> BoxTable:
        """Boxes to train on, without crowd regions."""
        rows, _ = self._rows_by_image
        rows = rows[~self.entries.is_crowd[rows]]
        images = self.entries.image_indices[rows]
        boxes_xyxy = clipped_xyxy(self.entries.boxes_xywh[rows], self.images.sizes[images, ::-1]).astype(np.float32)
        return BoxTable(boxes_xyxy, self.entries.labels[rows], np.searchsorted(images, np.arange(len(self.images) + 1)))

    @cached_property
    def ground_truth(self) -> dict[str, Any]:
        """The data set as JSON for evaluators, with missing ``iscrowd``, ``area`` and ``id`` filled in."""
        return {
            "info": {},
            "images": [dict(zip(("id", "file_name", "height", "width"), image, strict=True)) for image in self.images],
            "annotations": self._as_json(self.entries),
            "categories": self.categories.as_coco(),
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
        kept = np.isin(self.images.ids, list(wanted))
        absent = len(wanted) - kept.sum()
        assert not absent, f"{self.path}: {absent} of these images are not listed"
        entries = self.entries.at(kept[self.entries.image_indices])
        entries = replace(entries, image_indices=np.cumsum(kept)[entries.image_indices] - 1)
        return replace(self, images=self.images.at(kept), entries=entries)

    @property
    def used_names(self) -> frozenset[str]:
        """Names of the classes that have an annotation, crowd regions too."""
        return frozenset(self.categories.names[label] for label in np.unique(self.entries.labels).tolist())

    def numbered_like(self, known: Categories) -> CocoAnnotations:
        """Return the annotations with the category ids that ``known`` has for the same names.

        A class that ``known`` lacks is left out if no annotation has it. Otherwise, or if a name stands for two
        classes, the annotations stay as they are.
        """
        ids, names = dict(zip(known.names, known.ids, strict=True)), self.categories.names
        if len(ids) < len(known) or len(set(names)) < len(names) or not ids.keys() >= self.used_names:
            return self
        return self._with_classes({label: ids[name] for label, name in enumerate(names) if name in ids})

    def with_classes(self, names: Collection[str]) -> CocoAnnotations:
        """Return the annotations with the classes of these names, and with all classes that an annotation has."""
        kept = self.used_names.union(names)
        ids = zip(self.categories.ids, self.categories.names, strict=True)
        return self._with_classes({label: number for label, (number, name) in enumerate(ids) if name in kept})

    def _with_classes(self, ids: dict[int, int]) -> CocoAnnotations:
        """Return the annotations with the classes of some labels, each with an id; no annotation has another label."""
        order = sorted(ids, key=ids.__getitem__)
        categories = Categories(
            tuple(ids[label] for label in order), tuple(self.categories.names[label] for label in order)
        )
        if categories == self.categories:
            return self
        labels = np.zeros(len(self.categories), np.int64)
        labels[order] = np.arange(len(order))
        return replace(self, categories=categories, entries=replace(self.entries, labels=labels[self.entries.labels]))

    def require_boxes(self) -> None:
        """Raise `InputError` if the file has no box to train on."""
        if self.entries.is_crowd.all():
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
        if found == names:
            return self
        return replace(self, images=ImageTable.of(self.images.ids, found, self.images.sizes))

    def warn_of_limit(self, max_detections: int, *, found: int | None = None) -> None:
        """Warn of a limit above the number of queries, and of images with more objects of a class than the limit.

        Args:
            max_detections: number of detections per image and class that the metrics count.
            found: largest number of detections that the detector gives for an image; None if unknown.
        """
        if found is not None and max_detections > max(found, MAX_DETECTIONS):
            log.warning(
                "--max_detections %d has the effect of %d: the detector finds no more in an image; train it with "
                "--num_queries %d",
                *(max_detections, found, max_detections),
            )
        single = self.entries.at(~self.entries.is_crowd)
        pairs = single.image_indices * len(self.categories) + single.labels
        groups, counts = np.unique(pairs, return_counts=True)
        crowded = np.unique(groups[counts > max_detections] // max(1, len(self.categories)))
        if len(crowded):
            most = counts.max()
            more = f", for a detector of --num_queries {most} or more" if found is not None and found < most else ""
            log.warning(
                "%s: %d of %d images have more than %d objects of a class, up to %d, and metrics count %d detections "
                "of an image and class%s, so AP can't reach 1; --max_detections %d counts all%s",
                *(self.path, len(crowded), len(self.images), max_detections, most, max_detections),
                *(" as COCO does" if max_detections == MAX_DETECTIONS else "", most, more),
            )

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
        columns = {
            "id": entries.ids,
            "image_id": self.images.ids[entries.image_indices],
            "category_id": np.array(self.categories.ids, np.int64)[entries.labels],
            "bbox": entries.boxes_xywh,
            "area": entries.areas,
            "iscrowd": entries.is_crowd.astype(np.int64),
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _raise_or_warn(findings: Iterable[Finding], path: Path) -> None:
    """Raise `InputError` for the first finding that stops training; log the findings that change the training data."""
    for finding in findings:
        if finding.effect == STOPS:
            raise InputError(f"{path}: {finding.sentence()}")
    for finding in findings:
        if finding.effect == WARNS:
            log.warning("%s: %s", path, finding.sentence())


def _checked(split: Split, findings: list[Finding]) -> CocoAnnotations:
    """Return the tables of a file; raise `InputError` if a mistake keeps training from starting."""
    _raise_or_warn(findings, split.path)
    if not split.labelled:
        raise InputError(f'{split.path}: it has no list "annotations"; give a file of annotations')
    images, boxes, classes = split.images, split.boxes, split.categories
    by_id = sorted(zip(classes.ids, classes.names, strict=True))
    categories = Categories(tuple(number for number, _ in by_id), tuple(name for _, name in by_id))
    every = AnnotationTable(
        ids=_annotation_ids(boxes.ids),
        image_indices=boxes.image,
        labels=np.searchsorted(categories.ids, np.array(classes.ids, np.int64)[boxes.category]),
        boxes_xywh=boxes.xywh,
        areas=np.where(np.isnan(boxes.area), boxes.xywh[:, 2] * boxes.xywh[:, 3], boxes.area),
        is_crowd=boxes.crowd,
    )
    table = ImageTable.of(images.ids, images.names, images.sizes[:, ::-1])
    return CocoAnnotations(split.path, table, categories, every.at(split.usable), boxes.places is not None)


def _annotation_ids(given: Sequence[int | None]) -> np.ndarray:
    """Return ids ``[M]`` int64 above 0.

    If an id is 0 or less, all ids are shifted alike. Annotations without an id get new ones. If an id would not fit
    into 64 bits, the annotations are numbered from 1.
    """
    known = [one for one in given if one is not None]
    shift = max(0, 1 - min(known, default=1))
    free = itertools.count(max(known, default=0) + shift + 1)
    try:
        return np.array([next(free) if one is None else one + shift for one in given], np.int64)
    except OverflowError:
        return np.arange(1, len(given) + 1)
