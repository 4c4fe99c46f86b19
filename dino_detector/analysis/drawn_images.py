"""Pictures of images with their detections and ground truth: the choice of images, and the drawing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dino_detector.analysis.drawing import Comparison, draw_detections, enlarged, prediction_grid
from dino_detector.analysis.runs import Run, file_inside
from dino_detector.data.pictures.decoding import read_image
from dino_detector.data.pictures.finding import WRITABLE, picture_extensions, save_picture
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.structures.detections import coco_detections

log = logging.getLogger(__name__)

SMALLEST_SIDE, LARGEST_SIDE = 640, 1600
"""longer side in pixels: smaller images are enlarged to the first; pairs with ground truth are at most the second"""
OUTSIDE = 0.1
"""part of the image's side by which a box may reach beyond it; a larger part suggests another image"""


class Picture(NamedTuple):
    """An image to draw on, its (height, width) if a list states it, and the file to write."""

    image_id: int
    file: Path
    size: tuple[int, int] | None
    target: Path


def choose_pictures(run: Run, shown: list[dict[str, Any]], *, count: int, target: Path) -> list[Picture]:
    """Choose images to draw on, evenly spaced over the sorted ids of the images with detections or ground truth.

    Detections name the file of their image; otherwise the list does; otherwise the file name is the id.

    Args:
        run: detections, with the folder of their images.
        shown: the detections to draw.
        count: largest number of pictures.
        target: folder of the pictures.

    Raises:
        InputError: no image exists, or two images would have the same picture file.
    """
    folder, wanted = run.images, {row["image_id"] for row in shown}
    if run.annotations is not None:
        wanted |= set(run.annotations.images.ids[run.annotations.entries.image_indices].tolist())
    named = {row["image_id"]: row["file_name"] for row in shown if "file_name" in row}
    listed = {} if run.listed is None else {record.image_id: record for record in run.listed.images}
    both = {image_id: (name, listed[image_id].file_name) for image_id, name in named.items() if image_id in listed}
    others = [image_id for image_id, (name, other) in both.items() if Path(name).name != Path(other).name]
    if others:  # the detections or the list belong to another data set
        log.warning(
            "%s: calls image %d %r, but the list of images calls it %r (%d of %d names differ); give the list of these "
            "images",
            *(run.predictions, others[0], *both[others[0]], len(others), len(named)),
        )
    numbered = {
        int(file.stem): file.name
        for file in sorted(folder.iterdir(), reverse=True)
        if file.suffix.lower() in picture_extensions() and file.stem.isascii() and file.stem.isdecimal()
    }
    pictures, missing = [], []
    for image_id in sorted(wanted):
        record = listed.get(image_id)
        name = named.get(image_id) or (record.file_name if record else numbered.get(image_id))
        file = None if name is None else file_inside(folder, name)
        if file is None:
            missing.append(f"image {image_id}" + (f" ({name!r})" if name else ""))
            continue
        drawn = target / file.relative_to(folder)
        if file.suffix.lower() not in WRITABLE:
            drawn = drawn.with_name(f"{drawn.name}.png")
        size = (record.height, record.width) if record and name == record.file_name else None
        pictures.append(Picture(image_id, file, size, drawn))
    if missing:
        absent = f"{folder}: {missing[0]} is not there"
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
    run: Run, pictures: Sequence[Picture], shown: list[dict[str, Any]], *, threshold: float
) -> dict[Path, str]:
    """Write a picture of the detections of each image, with its ground truth on the left if there is any.

    Small images are enlarged, so that labels do not hide them. An unreadable image is skipped with a warning.

    Returns:
        The meaning of each file.
    """
    classes, written = run.classes, {}
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
        if run.annotations is None:
            canvas, scale = enlarged(image, SMALLEST_SIDE)
            found = dataclasses.replace(found, xyxy=found.xyxy * scale)
            drawn = draw_detections(canvas, found, categories=classes, scores=True)
        else:
            objects = run.annotations.annotations_of(picture.image_id)
            meaning += f" beside {counted(len(objects), 'box', 'boxes')} of ground truth"
            pair = Comparison(image, coco_detections(objects, classes), found, caption=picture.file.name)
            side = min(LARGEST_SIDE, max(SMALLEST_SIDE, height, width))
            drawn = prediction_grid([pair], categories=classes, min_score=threshold, cell_width=side)
        save_picture(drawn, picture.target, quality=92)
        written[picture.target] = meaning
    if outside:
        log.warning(
            "%s: has detections far outside it, as have %d of the %d pictures; are these the images of the detections?",
            *(outside[0], len(outside), len(written)),
        )
    return written
