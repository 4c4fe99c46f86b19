"""COCO 2017 as it is published, as it lies on disk, and whether all of it is there.

https://cocodataset.org/#download; sizes and SHA-256 as TensorFlow Datasets pins them (url_checksums/coco2017.txt).
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Literal, NamedTuple

from dino_detector.download.checksums import Checksum
from dino_detector.errors import InputError
from dino_detector.storage.files import read_json

Split = Literal["train", "val", "test"]


class Archive(NamedTuple):
    """An archive at its path below the base address, and what the toolkit takes from it.

    Attributes:
        path: such as ``zips/val2017.zip``.
        size: its bytes.
        checksum: of COCO's own archive.
        folder: the folder inside, which is also the folder on disk.
        files: the files that are taken; None takes all of the folder.
    """

    path: str
    size: int
    checksum: Checksum
    folder: str
    files: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.rsplit("/", 1)[-1]


INSTANCES = Archive(
    "annotations/annotations_trainval2017.zip",
    252_907_541,
    Checksum("113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"),
    "annotations",
    ("instances_train2017.json", "instances_val2017.json"),
)
TEST_INFO = Archive(
    "annotations/image_info_test2017.zip",
    1_144_034,
    Checksum("e52f412dd7195ac8f98d782b44c6dd30ea10241e9f42521f67610fbe055a74f8"),
    "annotations",
    ("image_info_test2017.json", "image_info_test-dev2017.json"),
)
TRAIN_IMAGES = Archive(
    "zips/train2017.zip",
    19_336_861_798,
    Checksum("69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929"),
    "train2017",
)
VAL_IMAGES = Archive(
    "zips/val2017.zip",
    815_585_330,
    Checksum("4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"),
    "val2017",
)
TEST_IMAGES = Archive(
    "zips/test2017.zip",
    6_646_970_404,
    Checksum("c7908c3c9f94ba2f3340ebbeec58c25db6be8774f18d68c2f15d0e369d95baba"),
    "test2017",
)


class SplitFiles(NamedTuple):
    """What a split consists of.

    Attributes:
        images: the archive of its images.
        info: the archive of its annotation files.
        listing: the annotation file that lists every image.
        annotations: the annotation file to evaluate on.
    """

    images: Archive
    info: Archive
    listing: str
    annotations: str


SPLITS: dict[Split, SplitFiles] = {
    "train": SplitFiles(TRAIN_IMAGES, INSTANCES, "instances_train2017.json", "instances_train2017.json"),
    "val": SplitFiles(VAL_IMAGES, INSTANCES, "instances_val2017.json", "instances_val2017.json"),
    "test": SplitFiles(TEST_IMAGES, TEST_INFO, "image_info_test2017.json", "image_info_test-dev2017.json"),
}


def images_dir(split: Split, data_dir: Path) -> Path:
    """The folder of a split's images."""
    return data_dir / SPLITS[split].images.folder


def annotations_path(split: Split, data_dir: Path) -> Path:
    """The COCO JSON to train or evaluate on: ``instances_*.json``, or ``image_info_test-dev2017.json`` for test."""
    return data_dir / "annotations" / SPLITS[split].annotations


def listing_path(split: Split, data_dir: Path) -> Path:
    """The COCO JSON that lists every image of a split; for test ``image_info_test2017.json``."""
    return data_dir / "annotations" / SPLITS[split].listing


def is_complete(split: Split, data_dir: Path) -> bool:
    """Whether the annotations can be read and every image that they list is there and not empty.

    Images are not opened: those that this toolkit fetched were checked then, others are the user's own.
    """
    try:
        return not missing_images(split, data_dir)
    except InputError:
        return False


def missing_images(split: Split, data_dir: Path) -> list[str]:
    """File names of a split that its annotations list and its folder lacks.

    Raises:
        InputError: an annotation file is missing or broken.
    """
    if annotations_path(split, data_dir) != listing_path(split, data_dir):
        listed_images(annotations_path(split, data_dir))
    return absent(listed_images(listing_path(split, data_dir)), images_dir(split, data_dir))


def listed_images(path: Path) -> list[str]:
    """``file_name`` of every image in a COCO JSON.

    Raises:
        InputError: the file is missing, is not JSON, or lists no images.
    """
    try:
        state = path.stat()
        return _listed_images(path, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation file; download it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: cannot be read as COCO annotations ({reason}); download it again") from error


@functools.lru_cache(maxsize=4)
def _listed_images(path: Path, size: int, changed: int) -> list[str]:
    """The names in a file of this size and time, kept because the file of train takes seconds to parse."""
    names = [entry["file_name"] for entry in read_json(path)["images"]]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("it does not list the file names of its images")
    return names


def absent(names: list[str], folder: Path) -> list[str]:
    """The names that a folder has no file for, or an empty one; the folder is listed once, however many there are."""
    present: set[str] = set()
    if folder.is_dir():
        with os.scandir(folder) as entries:
            present = {entry.name for entry in entries if _has_content(entry)}
    return [name for name in names if name not in present and not ("/" in name and _has_content(folder / name))]


def _has_content(file: Path | os.DirEntry[str]) -> bool:
    try:
        return file.is_file() and file.stat().st_size > 0
    except OSError:
        return False
