"""Reads images of a COCO data set by their position in the annotation file, with their objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.pictures.decoding import check_image, read_image, read_part
from dino_detector.data.windows import Window
from dino_detector.errors import InputError

Found = TypeVar("Found")


class Objects(NamedTuple):
    """Boxes ``[N, 4]`` xyxy float32 in pixels, and labels ``[N]`` int64."""

    boxes_xyxy: np.ndarray
    labels: np.ndarray

    def at(self, which: np.ndarray) -> Objects:
        """Return the objects at some positions, or under a mask ``[N]``."""
        return Objects(self.boxes_xyxy[which], self.labels[which])

    def at_least(self, side: float) -> Objects:
        """Return the objects whose sides are both at least ``side`` pixels."""
        return self.at((self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2] >= side).all(axis=1))

    @staticmethod
    def joined(parts: list[Objects]) -> Objects:
        """Concatenate objects."""
        return Objects(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


class CocoImages:
    """Images of a COCO data set in the order of the file, also images without annotations.

    Args:
        folder: the folder of the images.
        annotations: the annotation file; its crowd regions are not among the boxes.
        white_level: value of white in pictures of more than 8 bits, see `pictures.decoding.read_image`.
    """

    def __init__(self, folder: Path | str, annotations: CocoAnnotations, *, white_level: float | None = None) -> None:
        self.folder = Path(folder)
        self.white_level = white_level
        self.annotations_path = annotations.path
        self._has_ids = not annotations.has_places
        self.records = annotations.images
        self.table = annotations.training
        self._all = np.arange(len(self.records))
        self._with_objects = np.flatnonzero(np.diff(self.table.starts))

    def __len__(self) -> int:
        return len(self.records)

    def snapshot(self) -> CocoImages:
        """Return the images for one sample; files do not change between its reads."""
        return self

    def size(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image in pixels."""
        return tuple(self.records.sizes[index].tolist())

    def objects(self, index: int) -> Objects:
        """Return the objects in an image."""
        return Objects(*self.table.of(index))

    def another(self, rng: np.random.Generator, index: int, *, with_objects: bool = False) -> int:
        """Draw the index of another image, or of another image with objects; return ``index`` if there is none."""
        pool = self._with_objects if with_objects else self._all
        position = int(np.searchsorted(pool, index))
        is_in = int(index in pool[position : position + 1])
        others = max(1, len(pool) - is_in)
        return int(pool[(position + is_in + rng.integers(others)) % len(pool)])

    def read(self, index: int) -> Tensor:
        """Read an image ``[3, H, W]`` uint8; raise `InputError` with its file and id if it can't be read."""
        return self._read(read_image, index)

    def read_part(self, index: int, crop: Window, size: tuple[int, int]) -> Tensor:
        """Read a part of an image, resized to ``[3, *size]`` uint8; raise like `read`."""
        return self._read(read_part, index, crop=crop, size=size)

    def check(self, index: int) -> None:
        """Raise if `read` would."""
        self._read(check_image, index)

    def _read(self, reader: Callable[..., Found], index: int, **how: object) -> Found:
        record = self.records[index]
        try:
            path, size = self.folder / record.file_name, self.size(index)
            return reader(path, expected_size=size, white_level=self.white_level, **how)
        except InputError as error:
            image = f"image {record.image_id} from {self.annotations_path}" if self._has_ids else "it and its labels"
            raise InputError(f"{error}, or remove {image}") from error


def first_readable(images: CocoImages, index: int, look: Callable[[int], Found], skipped: list[str]) -> Found:
    """Call ``look`` with ``index``, or with the next index whose image it can read.

    Args:
        images: the data set; the first image follows the last.
        index: the first image to try.
        look: raises `InputError` if it can't read the image at an index.
        skipped: receives one line for each image that can't be read.

    Raises:
        InputError: no image can be read.
    """
    for step in range(len(images)):
        try:
            return look((index + step) % len(images))
        except InputError as error:
            skipped.append(str(error))
    raise InputError(f"{images.folder}: none of the {len(images)} images can be read; the first: {skipped[0]}")
