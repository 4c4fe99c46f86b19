"""COCO 2017: its archives, its folders on disk, and the files that a folder lacks.

https://cocodataset.org/#download; sizes and SHA-256 as in TensorFlow Datasets (url_checksums/coco2017.txt).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

import msgspec

from dino_detector.errors import InputError
from dino_detector.storage.files import as_utf8

CocoSplit = Literal["train", "val", "test"]

_TABLE = """
zips/train2017.zip 19_336_861_798 69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929
zips/val2017.zip 815_585_330 4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05
zips/test2017.zip 6_646_970_404 c7908c3c9f94ba2f3340ebbeec58c25db6be8774f18d68c2f15d0e369d95baba
annotations/annotations_trainval2017.zip 252_907_541 113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268
annotations/image_info_test2017.zip 1_144_034 e52f412dd7195ac8f98d782b44c6dd30ea10241e9f42521f67610fbe055a74f8
"""
ARCHIVES = {path: (int(size), checksum) for path, size, checksum in map(str.split, _TABLE.strip().splitlines())}
"""bytes and SHA-256 of each archive, by its path below ``coco_url``"""


class Archive(NamedTuple):
    """An archive of COCO 2017; ``files`` are the annotation files to take, empty for images, which are taken whole."""

    path: str
    size: int
    checksum: str
    files: tuple[str, ...]

    @classmethod
    def at(cls, path: str, *files: str) -> Archive:
        """Return the archive with this path in `ARCHIVES`."""
        return cls(path, *ARCHIVES[path], files)

    @property
    def folder(self) -> str:
        """Name of the folder in the archive and on disk."""
        return "annotations" if self.files else PurePosixPath(self.path).stem


class SplitFiles(NamedTuple):
    """Archives of a split, and its annotation files: the first lists all images, the last serves to evaluate on."""

    images: Archive
    info: Archive
    annotations: tuple[str, ...]


_TRAIN, _VAL = "instances_train2017.json", "instances_val2017.json"
_INSTANCES = Archive.at("annotations/annotations_trainval2017.zip", _TRAIN, _VAL)
_TEST_INFO = Archive.at(
    "annotations/image_info_test2017.zip", "image_info_test2017.json", "image_info_test-dev2017.json"
)
SPLITS: dict[CocoSplit, SplitFiles] = {
    "train": SplitFiles(Archive.at("zips/train2017.zip"), _INSTANCES, (_TRAIN,)),
    "val": SplitFiles(Archive.at("zips/val2017.zip"), _INSTANCES, (_VAL,)),
    "test": SplitFiles(Archive.at("zips/test2017.zip"), _TEST_INFO, _TEST_INFO.files),
}


class _Image(msgspec.Struct):
    file_name: str


class _Listing(msgspec.Struct):
    """The part of an annotation file that is decoded, which takes a second where all of it takes a minute."""

    images: Annotated[list[_Image], msgspec.Meta(min_length=1)]


def images_dir(split: CocoSplit, data_dir: Path) -> Path:
    """Return the folder of a split's images."""
    return data_dir / SPLITS[split].images.folder


def annotations_path(split: CocoSplit, data_dir: Path) -> Path:
    """Return the annotation file to train or evaluate on; for test the list of the test-dev images."""
    return data_dir / "annotations" / SPLITS[split].annotations[-1]


def is_complete(split: CocoSplit, data_dir: Path) -> bool:
    """Return whether the annotations can be read and every listed image is a file that is not empty.

    Images are not opened. The toolkit checks an image when it fetches it; other images are the user's own.
    """
    return not broken_annotations(split, data_dir) and not missing_images(split, data_dir)


def broken_annotations(split: CocoSplit, data_dir: Path) -> list[str]:
    """Return the names of a split's annotation files that are missing or can't be read."""
    broken = []
    for name in SPLITS[split].annotations:
        try:
            listed_images(data_dir / "annotations" / name)
        except InputError:
            broken.append(name)
    return broken


def missing_images(split: CocoSplit, data_dir: Path) -> list[str]:
    """Return the file names that the annotations of a split list and its folder lacks."""
    listing = data_dir / "annotations" / SPLITS[split].annotations[0]
    return absent(listed_images(listing), images_dir(split, data_dir))


def listed_images(path: Path) -> list[str]:
    """Return the ``file_name`` of every image in an annotation file.

    Raises:
        InputError: the file is missing, is malformed, or lists no images.
    """
    try:
        images = msgspec.json.decode(as_utf8(path.read_bytes()), type=_Listing).images
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as COCO annotations ({error}); download it again") from error
    return [image.file_name for image in images]


def absent(names: Iterable[str], folder: Path) -> list[str]:
    """Return the names without a file in a folder, or with an empty file."""
    present: set[str] = set()
    if folder.is_dir():
        with os.scandir(folder) as entries:  # much faster than a look at each name
            present = {entry.name for entry in entries if entry.is_file() and entry.stat().st_size}
    return [name for name in names if name not in present and not ("/" in name and (folder / name).is_file())]
