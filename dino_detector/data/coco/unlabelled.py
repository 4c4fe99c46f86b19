"""Images without annotations: COCO's test-dev, or any folder of pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.entries import WHOLE_NUMBERS
from dino_detector.data.pictures.finding import find_pictures
from dino_detector.data.pictures.opening import image_size
from dino_detector.errors import InputError
from dino_detector.storage.files import read_json
from dino_detector.structures.categories import Categories

log = logging.getLogger(__name__)

IMAGE_INFO = "image_info_test-dev2017.json"
"""COCO's list of the test-dev images"""
DETECTED_INFO = "testdev_image_info.json"
"""the list of images with detections, written beside the detections"""


def find_image_info(folder: Path) -> Path | None:
    """Find COCO's list of the test-dev images, in the folder of the images or in ``annotations`` beside it.

    A list beside a folder of other images, such as ``unlabeled2017``, is not the folder's list. An empty or missing
    folder may wait for a download.
    """
    inside, beside = folder / IMAGE_INFO, folder.absolute().parent / "annotations" / IMAGE_INFO
    if inside.is_file() or not beside.is_file():
        return inside if inside.is_file() else None
    here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = read_image_info(beside, Categories((), ())).images.file_names
    return beside if not here or here.intersection(names) else None


def read_image_info(path: Path, categories: Categories) -> CocoAnnotations:
    """Read a COCO image list, with the categories of the detector and without annotations.

    Raises:
        InputError: the file can't be read or has no list of images.
    """
    content = read_json(path)
    return CocoAnnotations.parse(content | _no_boxes(categories) if isinstance(content, dict) else content, path)


def list_pictures(folder: Path, categories: Categories) -> tuple[CocoAnnotations, tuple[str, ...]]:
    """List the pictures of a folder, sorted by name.

    If every name is a 64-bit number, as in COCO, the numbers are the ids; otherwise ids count from 1.

    Returns:
        The images as annotations that hold no boxes, and one line for each picture that can't be read.

    Raises:
        InputError: the folder has no readable picture.
    """
    found = find_pictures(folder)
    paths = found.pictures
    if left_out := found.left_out_line(folder):
        log.warning("%s", left_out)
    numbers = [int(path.stem) if path.stem.isascii() and path.stem.isdecimal() else None for path in paths]
    if None in numbers or len(set(numbers)) < len(numbers) or not all(number in WHOLE_NUMBERS for number in numbers):
        numbers = list(range(1, len(paths) + 1))
    entries, unreadable = [], []
    for number, path in zip(numbers, paths, strict=True):
        try:
            height, width = image_size(path)
        except InputError as error:
            unreadable.append(str(error))
        else:
            entries.append({"id": number, "file_name": path.name, "height": height, "width": width})
    if not entries:
        raise InputError(f"{folder}: none of its {len(paths)} pictures can be read; the first: {unreadable[0]}")
    return CocoAnnotations.parse({"images": entries, **_no_boxes(categories)}, folder), tuple(unreadable)


def _no_boxes(categories: Categories) -> dict[str, Any]:
    """Return the other lists of a COCO file without annotations."""
    return {"annotations": [], "categories": categories.as_coco()}
