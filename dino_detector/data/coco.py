"""COCO detection annotations: read, checked, and turned into the boxes that a detector trains on.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from dino_detector.data.categories import Categories
from dino_detector.data.known_sets import COCO_2017
from dino_detector.errors import InputError
from dino_detector.files import paused_collection, read_json

log = logging.getLogger(__name__)


class ImageRecord(NamedTuple):
    """One entry of ``images``; height and width in pixels."""

    image_id: int
    file_name: str
    height: int
    width: int


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
        rows = slice(self.starts[index], self.starts[index + 1])
        return torch.tensor(self.boxes_xyxy[rows]), torch.tensor(self.labels[rows])


@dataclass(frozen=True)
class CocoAnnotations:
    """A COCO detection file that has been checked.

    Attributes:
        path: the file.
        images: every image of the file in its order, those without annotations too.
        categories: ids and names of the classes.
        ground_truth: the parsed JSON for evaluators, with ``iscrowd``, ``area`` (width x height), ``id`` and ``info``
            filled in where absent. Annotation ids are above 0 there, because pycocotools takes 0 for "no match".
        training: boxes to train on: crowd regions and boxes that clipping leaves empty are not among them.
    """

    path: Path
    images: tuple[ImageRecord, ...]
    categories: Categories
    ground_truth: dict[str, Any]
    training: BoxTable
    _index_of: dict[int, int]
    _annotations_of: list[list[int]]

    @classmethod
    def read(cls, path: Path | str) -> CocoAnnotations:
        """Read and check a COCO detection JSON.

        Raises:
            InputError: the file is missing, not JSON or not COCO; an id repeats or refers to nothing; a box is not
                four finite numbers, has no size or lies outside its image.
        """
        reader = _Reader(Path(path))
        with paused_collection():
            return reader.check(reader.parse())

    @classmethod
    def parse(cls, content: dict[str, Any], path: Path) -> CocoAnnotations:
        """Check the content of a COCO detection JSON; as `read`, with ``path`` for messages. The content is kept."""
        return _Reader(path).check(content)

    def annotations_of(self, image_id: int) -> list[dict[str, Any]]:
        """The entries of ``ground_truth["annotations"]`` that belong to an image, crowd regions too."""
        entries = self.ground_truth["annotations"]
        return [entries[position] for position in self._annotations_of[self._index_of[image_id]]]

    def training_boxes(self, image_id: int) -> tuple[Tensor, Tensor]:
        """Boxes ``[N, 4]`` (xyxy, float32 pixels, clipped to the image) and labels ``[N]`` int64 to train on."""
        return self.training.of(self._index_of[image_id])

    def restricted_to(self, image_ids: Iterable[int]) -> CocoAnnotations:
        """These images alone with all that belongs to them, in the order of the file; categories stay."""
        wanted = {self._index_of[image_id] for image_id in image_ids}
        kept = [index for index in range(len(self.images)) if index in wanted]
        grouped = [self._annotations_of[index] for index in kept]
        counts = [len(positions) for positions in grouped]
        ends = np.cumsum([0, *counts]).tolist()
        rows = [np.arange(self.training.starts[index], self.training.starts[index + 1]) for index in kept]
        selected = np.concatenate([np.zeros(0, np.int64), *rows])
        entries, images = self.ground_truth["annotations"], self.ground_truth["images"]
        return replace(
            self,
            images=tuple(self.images[index] for index in kept),
            ground_truth=self.ground_truth
            | {
                "images": [images[index] for index in kept],
                "annotations": [entries[position] for positions in grouped for position in positions],
            },
            training=BoxTable(
                self.training.boxes_xyxy[selected],
                self.training.labels[selected],
                np.cumsum([0, *(len(row) for row in rows)]),
            ),
            _index_of={self.images[index].image_id: position for position, index in enumerate(kept)},
            _annotations_of=[list(range(first, last)) for first, last in itertools.pairwise(ends)],
        )

    def require_boxes(self) -> None:
        """Raise `InputError` if the file has no box to train on."""
        if len(self.training.labels) == 0:
            raise InputError(
                f"{self.path}: no boxes to train on among {len(self.ground_truth['annotations'])} annotations of "
                f"{len(self.images)} images; annotate at least one object that is not a crowd"
            )

    def check_files(self, images_dir: Path | str) -> None:
        """Raise `InputError` if the folder or an image file is missing; names the first and counts the others."""
        images_dir = Path(images_dir)
        if not images_dir.is_dir():
            raise InputError(f"{images_dir}: no such folder of images; correct the path")
        paths = [Path(record.file_name) for record in self.images]
        found = {
            folder: {entry.name for entry in (images_dir / folder).iterdir()}
            if (images_dir / folder).is_dir()
            else set()
            for folder in {path.parent for path in paths}
        }
        missing = [
            record
            for record, path in zip(self.images, paths, strict=True)
            if path.name not in found[path.parent] and not (images_dir / path).is_file()
        ]
        if missing:
            first = missing[0]
            raise InputError(
                f"{images_dir / first.file_name}: file of image {first.image_id} in {self.path} is missing "
                f"({len(missing)} of {len(self.images)} image files are); correct the folder, add the files or remove "
                "the images from the annotations"
            )


class _Reader:
    """Checks one file; every failure names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str) -> NoReturn:
        raise InputError(f"{self.path}: {problem}")

    def check(self, content: Any) -> CocoAnnotations:
        self.check_lists(content)
        images = tuple(self.image(position, entry) for position, entry in enumerate(content["images"]))
        if not images:
            self.fail('"images" is empty; add at least one image')
        self.check_unique("image", (record.image_id for record in images))
        categories = self.categories(content["categories"])

        index_of = {record.image_id: index for index, record in enumerate(images)}
        label_of = {category_id: label for label, category_id in enumerate(categories.ids)}
        entries = content["annotations"]
        names = [self.annotation(position, entry, index_of, label_of) for position, entry in enumerate(entries)]
        self.check_unique("annotation", (entry["id"] for entry in entries if "id" in entry))

        image_indices = np.array([index_of[entry["image_id"]] for entry in entries], dtype=np.int64)
        labels = np.array([label_of[entry["category_id"]] for entry in entries], dtype=np.int64)
        crowd = np.array([entry.get("iscrowd", 0) for entry in entries], dtype=bool)
        is_coco = content.get("info", {}).get("description") == COCO_2017
        boxes = self.clipped_boxes(entries, names, images, image_indices, flat_is_known=is_coco)
        keep = ~crowd & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])

        order = np.argsort(image_indices, kind="stable")
        trained = order[keep[order]]
        edges = np.arange(len(images) + 1)
        grouped = np.split(order, np.searchsorted(image_indices[order], edges[1:-1]))
        fill_in(content)
        return CocoAnnotations(
            path=self.path,
            images=images,
            categories=categories,
            ground_truth=content,
            training=BoxTable(boxes[trained], labels[trained], np.searchsorted(image_indices[trained], edges)),
            _index_of=index_of,
            _annotations_of=[positions.tolist() for positions in grouped],
        )

    def parse(self) -> Any:
        try:
            return read_json(self.path)
        except FileNotFoundError:
            self.fail("no such annotation file; correct the path")
        except OSError as error:
            self.fail(f"cannot be read ({error.strerror}); correct the path or the permissions")
        except ValueError as error:
            self.fail(f"not JSON, or cut short ({error}); write or download it again")

    def check_lists(self, content: Any) -> None:
        wanted = ("images", "annotations", "categories")
        absent = [key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), list)]
        if absent:
            self.fail(
                f'not a COCO detection file: it has no list "{absent[0]}"; it needs the lists {", ".join(wanted)}'
            )

    def image(self, position: int, entry: Any) -> ImageRecord:
        self.check_object(entry, f'entry {position} of "images"')
        self.check_ids(entry, ("id",), f'entry {position} of "images"')
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            self.fail(f'image {entry["id"]} has no "file_name"; add it')
        for side in ("height", "width"):
            if not is_whole(entry.get(side)) or entry[side] < 1:
                self.fail(f'image {entry["id"]} has "{side}" {entry.get(side)!r}; give its pixels as a whole number')
        return ImageRecord(entry["id"], name, entry["height"], entry["width"])

    def categories(self, entries: list[Any]) -> Categories:
        for position, entry in enumerate(entries):
            self.check_object(entry, f'entry {position} of "categories"')
            self.check_ids(entry, ("id",), f'entry {position} of "categories"')
            if not isinstance(entry.get("name"), str):
                self.fail(f'category {entry["id"]} has no "name"; add it')
        self.check_unique("category", (entry["id"] for entry in entries))
        ordered = sorted(entries, key=lambda entry: entry["id"])
        return Categories(tuple(entry["id"] for entry in ordered), tuple(entry["name"] for entry in ordered))

    def annotation(self, position: int, entry: Any, images: dict[int, int], labels: dict[int, int]) -> str:
        """Check all but the box's size and place; returns what to call the annotation in errors."""
        name = f'entry {position} of "annotations"'
        self.check_object(entry, name)
        if "id" in entry:
            self.check_ids(entry, ("id",), name)
            name = f"annotation {entry['id']}"
        self.check_ids(entry, ("image_id", "category_id"), name)
        image_id, category_id = entry["image_id"], entry["category_id"]
        if image_id not in images:
            self.fail(
                f'{name} refers to image {image_id}, which is not in "images"; remove the annotation or add the image'
            )
        if category_id not in labels:
            self.fail(
                f'{name} refers to category {category_id}, which is not in "categories"; '
                "remove the annotation or add the category"
            )
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
            self.fail(f'{name} has "bbox" {box!r}; give four numbers, [x, y, width, height] in pixels')
        if entry.get("iscrowd", 0) not in (0, 1):
            self.fail(f'{name} has "iscrowd" {entry["iscrowd"]!r}; it is 0 or 1')
        if entry.get("area") is not None and not is_number(entry["area"]):
            self.fail(f'{name} has "area" {entry["area"]!r}; give a number of pixels, or leave it out')
        return name

    def clipped_boxes(
        self,
        entries: list[Any],
        names: list[str],
        images: tuple[ImageRecord, ...],
        image_indices: np.ndarray,
        *,
        flat_is_known: bool,
    ) -> np.ndarray:
        """Boxes ``[M, 4]`` xyxy float32, clipped to their images; of zero size only where that is known of a file."""
        boxes_xywh = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
        sizes = np.array([(record.width, record.height) for record in images], dtype=np.float64)[image_indices]
        near, far = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]

        def reject(bad: np.ndarray, problem: str) -> None:
            if bad.any():
                first = int(np.flatnonzero(bad)[0])
                record = images[image_indices[first]]
                others = f" ({bad.sum() - 1} more like it)" if bad.sum() > 1 else ""
                self.fail(
                    f"{names[first]} of image {record.image_id} ({record.width} x {record.height} pixels) has bbox "
                    f"{entries[first]['bbox']}, which {problem}{others}; correct the bbox or remove the annotation"
                )

        reject(~np.isfinite(boxes_xywh).all(axis=1), "is not finite")
        reject((boxes_xywh[:, 2:] < 0).any(axis=1), "has a negative size")
        flat = (boxes_xywh[:, 2:] == 0).any(axis=1)
        if not flat_is_known:
            reject(flat, "has zero size")
        elif flat.any():
            first = names[int(np.flatnonzero(flat)[0])]
            log.warning("%s: %d boxes have zero size and are not trained on, first %s", self.path, flat.sum(), first)
        reject(((near >= sizes) | (far <= 0)).any(axis=1), "lies outside the image")
        beyond = ((near < -1) | (far > sizes + 1)).any(axis=1)
        if beyond.any():
            first = int(np.flatnonzero(beyond)[0])
            log.warning(
                "%s: %d boxes reach beyond their image and are clipped for training, first %s",
                self.path,
                beyond.sum(),
                names[first],
            )
        return np.concatenate([near.clip(0, sizes), far.clip(0, sizes)], axis=1).astype(np.float32)

    def check_object(self, entry: Any, name: str) -> None:
        if not isinstance(entry, dict):
            self.fail(f"{name} is not an object; this is not a COCO detection file")

    def check_ids(self, entry: dict[str, Any], keys: Iterable[str], name: str) -> None:
        for key in keys:
            if not is_whole(entry.get(key)):
                self.fail(f'{name} has "{key}" {entry.get(key)!r}; give a whole number')

    def check_unique(self, kind: str, ids: Iterable[int]) -> None:
        seen: set[int] = set()
        for value in ids:
            if value in seen:
                self.fail(f"{kind} id {value} appears more than once; give each {kind} its own id")
            seen.add(value)


def fill_in(content: dict[str, Any]) -> None:
    """Add what evaluators read and files leave out, and make annotation ids start above 0."""
    content.setdefault("info", {})
    entries = content["annotations"]
    given = [entry["id"] for entry in entries if "id" in entry]
    shift = max(0, 1 - min(given, default=1))
    free = max(given, default=0) + shift
    for entry in entries:
        if "id" in entry:
            entry["id"] += shift
        else:
            free += 1
            entry["id"] = free
        entry.setdefault("iscrowd", 0)
        if entry.get("area") is None:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]


def is_whole(value: Any) -> bool:
    """True for a JSON integer; false for ``true`` and ``1.0``."""
    return type(value) is int


def is_number(value: Any) -> bool:
    """True for a JSON number, finite or not; false for ``true``."""
    return type(value) in (int, float)
