"""Pictures of images with their detections and ground truth: the choice of images, and the drawing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.analysis.result_files import ImageList, file_inside
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.pictures.files import WRITABLE, picture_extensions, save_picture
from dino_detector.data.pictures.reading import read_image
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import coco_detections

if TYPE_CHECKING:
    from PIL import Image
    from supervision import Detections
    from torch import Tensor

log = logging.getLogger(__name__)

SMALLEST_SIDE, LARGEST_SIDE = 640, 1600
"""pixels of the longer side of a drawn image: least, and most beside its ground truth"""
OUTSIDE = 0.1
"""part of the image's side by which a box may reach beyond it; a larger part suggests another image"""


class Picture(NamedTuple):
    """An image to draw on, its (height, width) if a list states it, and the file to write."""

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
    """Choose images to draw on, evenly spaced over the sorted ids of the images with detections or ground truth.

    Detections name the file of their image; otherwise the list does; otherwise the file name is the id.

    Args:
        shown: detections in COCO's results format.
        images: names, sizes and classes of the images.
        folder: folder of the images.
        count: largest number of pictures.
        target: folder of the pictures.
        source: file of the detections, for messages.
        truth: ground truth, if it is drawn beside the detections.

    Raises:
        InputError: no image exists, or two images would have the same picture file.
    """
    named = {row["image_id"]: row["file_name"] for row in shown if "file_name" in row}
    _warn_of_other_names(named, images, source)
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
        name = named.get(image_id) or listed or numbered.get(image_id)
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
    targets = [picture.target for picture in chosen]
    if doubled := {file for file in targets if targets.count(file) > 1}:
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
    """Write a picture of the detections of each image, with its ground truth on the left if that is given.

    Small images are enlarged, so that labels do not hide them. An unreadable image is skipped with a warning.

    Returns:
        The meaning of each file.
    """
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
        meaning = f"image {picture.image_id}, {counted(len(rows), 'detection')}"
        objects = None if truth is None else truth.annotations_of(picture.image_id)
        if objects is not None:
            meaning += f" beside {counted(len(objects), 'box', 'boxes')} of ground truth"
        save_picture(_draw(picture.file.name, image, found, objects, classes, threshold), picture.target, quality=92)
        written[picture.target] = meaning
    if outside:
        log.warning(
            "%s: has detections far outside it, as have %d of the %d pictures; are these the images of the detections?",
            *(outside[0], len(outside), len(written)),
        )
    return written


def _draw(
    name: str,
    image: Tensor,
    found: Detections,
    objects: list[dict[str, Any]] | None,
    classes: Categories,
    threshold: float,
) -> Image.Image:
    """Draw detections on an image ``[3, H, W]``, beside its ground truth unless that is None."""
    from dino_detector.analysis.pictures import Comparison, draw_detections, enlarged, prediction_grid

    if objects is None:
        canvas, scale = enlarged(image, SMALLEST_SIDE)
        scaled = dataclasses.replace(found, xyxy=found.xyxy * scale)
        return draw_detections(canvas, scaled, categories=classes, scores=True)
    pair = Comparison(image=image, ground_truth=coco_detections(objects, classes), predictions=found, caption=name)
    side = min(LARGEST_SIDE, max(SMALLEST_SIDE, *image.shape[1:]))
    return prediction_grid([pair], categories=classes, min_score=threshold, cell_width=side)


def _warn_of_other_names(named: dict[int, str], images: ImageList, source: Path) -> None:
    """Warn if detections and list name different files for an id: one of them belongs to another data set."""
    others = [
        number for number, name in named.items() if Path(images.files.get(number, (name,))[0]).name != Path(name).name
    ]
    if others:
        first = others[0]
        log.warning(
            "%s: image %d is %r there, but %r in the list of images (so are %d of %d); are they of the same images?",
            *(source, first, named[first], images.files[first][0], len(others), len(named)),
        )
