"""Pictures of images with what was found in them: which images, which file each one is, and what is drawn on it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dino_detector.analysis.result_files import ImageList, file_inside
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.pictures.files import WRITABLE, picture_extensions, save_picture
from dino_detector.data.pictures.reading import read_image
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import coco_detections

log = logging.getLogger(__name__)

SMALLEST_SIDE, LARGEST_SIDE = 640, 1600
"""pixels that the longer side of an image has at least, and beside its ground truth at most, when it is drawn on"""
OUTSIDE = 0.1
"""part of its image by which a box may reach beyond it: more is hardly the detector's doing"""


class Picture(NamedTuple):
    """An image to draw on, its (height, width) where a list states it, and the file to write."""

    image_id: int
    file: Path
    size: tuple[int, int] | None
    target: Path


def choose_pictures(
    shown: list[dict[str, Any]],
    images: ImageList,
    folder: Path,
    *,
    count: int,
    target: Path,
    source: Path,
    truth: CocoAnnotations | None = None,
) -> list[Picture]:
    """Images of ``folder`` to draw on, evenly spaced over the sorted ids of those that have something to draw.

    The file of an image is the one that its rows name; else the one in the list; else the one whose name is its id.

    Args:
        shown: detections in COCO's results format.
        images: what is known of the images.
        folder: where they are.
        count: how many are drawn at most.
        target: the folder to draw into.
        source: the file of the detections, for messages.
        truth: ground truth, where it is to be drawn beside the detections.

    Raises:
        InputError: none of the images is there, or a picture would stand for two of them.
    """
    names = {row["image_id"]: row["file_name"] for row in shown if "file_name" in row}
    _warn_of_other_names(names, images, source)
    numbered = {
        int(file.stem): file.name
        for file in sorted(folder.iterdir(), reverse=True)
        if file.suffix.lower() in picture_extensions() and file.stem.isascii() and file.stem.isdecimal()
    }
    wanted = {row["image_id"] for row in shown}
    if truth is not None:
        wanted |= {entry["image_id"] for entry in truth.ground_truth["annotations"]}
    pictures, missing = [], []
    for image_id in sorted(wanted):
        listed, size = images.files.get(image_id, (None, None))
        name = names.get(image_id) or listed or numbered.get(image_id)
        file = None if name is None else file_inside(folder, name)
        if file is None:
            missing.append(f"image {image_id}" + (f" ({name!r})" if name else ""))
            continue
        drawn = target / file.relative_to(folder)
        if file.suffix.lower() not in WRITABLE:
            drawn = drawn.with_name(f"{drawn.name}.png")
        pictures.append(Picture(image_id, file, size if name == listed else None, drawn))
    if missing:
        absent = f"{folder}: {missing[0]} of {source} is not there"
        if not pictures:
            remedy = "correct the folder, or give a COCO file with the names of the files with --test_annotations"
            raise InputError(f"{absent}, nor any other of {counted(len(missing), 'image')}; {remedy}")
        log.warning("%s (%d of %d images are missing)", absent, len(missing), len(missing) + len(pictures))
    count = min(count, len(pictures))
    chosen = [pictures[number * len(pictures) // count] for number in range(count)]
    doubled = {picture.target for picture in chosen if [other.target for other in chosen].count(picture.target) > 1}
    if doubled:
        raise InputError(f"{min(doubled)}: stands for two images, and would be overwritten; rename one")
    return chosen


def draw_pictures(
    pictures: Sequence[Picture],
    shown: list[dict[str, Any]],
    classes: Categories,
    *,
    threshold: float,
    truth: CocoAnnotations | None = None,
) -> dict[Path, str]:
    """Write a picture with its boxes for each image, and its ground truth on the left of them where that is given.

    An image that can't be read is named in a warning. Small ones are enlarged, so that labels do not hide them.

    Returns:
        What each file shows.
    """
    from dino_detector.analysis.pictures import Comparison, draw_detections, enlarged, prediction_grid

    written = {}
    outside: list[Path] = []
    for picture in pictures:
        try:
            image = read_image(picture.file, expected_size=picture.size)  # [3, H, W]
        except InputError as error:
            log.warning("%s", error)
            continue
        rows = [row for row in shown if row["image_id"] == picture.image_id]
        found = coco_detections(rows, classes)
        height, width = image.shape[1:]
        sides = np.array([width, height, width, height])
        if ((found.xyxy > (1 + OUTSIDE) * sides) | (found.xyxy < -OUTSIDE * sides)).any():
            outside.append(picture.file)
        if truth is None:
            canvas, scale = enlarged(image, SMALLEST_SIDE)
            scaled = dataclasses.replace(found, xyxy=found.xyxy * scale)
            drawn = draw_detections(canvas, scaled, categories=classes, scores=True)
        else:
            objects = truth.annotations_of(picture.image_id)
            pair = Comparison(
                image=image,
                ground_truth=coco_detections(objects, classes),
                predictions=found,
                caption=picture.file.name,
            )
            side = min(LARGEST_SIDE, max(SMALLEST_SIDE, height, width))
            drawn = prediction_grid([pair], categories=classes, min_score=threshold, cell_width=side)
        save_picture(drawn, picture.target, quality=92)
        beside = f" beside {counted(len(objects), 'box', 'boxes')} of ground truth" if truth is not None else ""
        written[picture.target] = f"image {picture.image_id}, {counted(len(rows), 'detection')}{beside}"
    if outside:
        log.warning(
            "%s: has detections far outside it, as have %d of the %d pictures; are these the images of the detections?",
            *(outside[0], len(outside), len(written)),
        )
    return written


def _warn_of_other_names(names: dict[int, str], images: ImageList, source: Path) -> None:
    """Say where detections and list give one id to two files: then one of them is of another set of images."""
    others = [
        number for number, name in names.items() if Path(images.files.get(number, (name,))[0]).name != Path(name).name
    ]
    if others:
        first = others[0]
        log.warning(
            "%s: image %d is %r there, but %r in the list of images (so are %d of %d); are they of the same images?",
            *(source, first, names[first], images.files[first][0], len(others), len(names)),
        )
