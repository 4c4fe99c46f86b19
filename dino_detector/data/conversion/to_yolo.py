"""Writes YOLO as Ultralytics reads it: https://docs.ultralytics.com/datasets/detect/"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from dino_detector.data.conversion.labelled import Box, Labelled, Notes, Picture
from dino_detector.data.pictures.opening import QUARTER_TURNS, opened, orientation, picture_sizes
from dino_detector.errors import InputError


def write_yolo(data: Labelled, folder: Path, notes: Notes) -> None:
    """Write ``data.yaml``, and a file of labels for each picture; boxes are fractions with ten digits.

    A picture of 20,000 pixels has its boxes within a hundred-thousandth of a pixel.
    """
    splits = {split or "train": pictures for split, pictures in data.splits.items()}
    for missing in (name for name in ("train", "val") if name not in splits):
        notes.say(f"no {missing} split", f"Ultralytics wants train and val; add {missing}: to data.yaml")
    lines = {split: f"images/{split}" for split in splits}
    text = yaml.safe_dump(lines | {"nc": len(data.classes), "names": data.classes}, **YAML)
    (folder / "data.yaml").write_text(text, "utf-8")
    if data.ids != list(range(len(data.ids))):
        pairs = [f"{number} -> {label}" for label, number in enumerate(data.ids)]
        notes.add("class id", "YOLO counts classes from 0 without gaps", pairs)
    for split, pictures in splits.items():
        labels = folder / "labels" / split
        for below in {(labels / picture.name).parent for picture in pictures}:
            below.mkdir(parents=True, exist_ok=True)
        for picture in _upright(pictures):
            (labels / f"{picture.stem}.txt").write_text(_lines(picture, notes), "utf-8")
    notes.crowds(data, "YOLO")
    absent = (picture.name for picture in data.pictures() if picture.file is None)
    notes.add("image without a file", "YOLO lists pictures only; its file of labels is written", absent, many=ABSENT)


YAML = {"sort_keys": False, "allow_unicode": True, "width": float("inf"), "default_flow_style": False}
ABSENT = "images without a file"


def _lines(picture: Picture, notes: Notes) -> str:
    size = picture.known_size
    if size is None:
        reason = "the size of the image is unknown, which fractions need; left out"
        notes.add("box", reason, [picture.name] * len(picture.boxes), many="boxes")
        return ""
    text, outside = [], 0
    for box in picture.boxes:
        centre = (box.left + box.width / 2) / size[0], (box.top + box.height / 2) / size[1]
        numbers = [round(value, 10) for value in (*centre, box.width / size[0], box.height / size[1])]
        outside += not all(0 <= value <= 1 for value in numbers)
        text.append(" ".join([str(box.label), *(f"{value:.10f}".rstrip("0").rstrip(".") for value in numbers)]))
    if outside:
        reason = "a number is not between 0 and 1; Ultralytics leaves out the whole picture"
        notes.add("box", reason, [picture.name] * outside, many="boxes")
    return "".join(f"{line}\n" for line in text)


def _upright(pictures: list[Picture]) -> list[Picture]:
    """Return the pictures with sizes and boxes as displayed, which the fractions refer to.

    Some tools label the stored pixels, before the EXIF orientation turns the picture.
    """
    shown = picture_sizes([picture.file for picture in pictures])
    return [_turned(picture, tuple(size)) for picture, size in zip(pictures, shown.tolist(), strict=True)]


def _turned(picture: Picture, shown: tuple[float, float]) -> Picture:
    if np.isnan(shown).any():
        return picture
    if picture.known_size is None:
        return Picture(picture.name, picture.file, shown, picture.boxes)
    if picture.size != shown[::-1] or shown[0] == shown[1]:
        return picture  # the boxes have the proportions of the size that their file gives
    turn = _quarter_turn(picture.file)
    boxes = [turned_box(box, turn, picture.size) for box in picture.boxes]
    return Picture(picture.name, picture.file, shown, boxes)


def _quarter_turn(file: Path) -> int:
    try:
        with opened(file, decode=False) as image:
            return orientation(image)
    except InputError:
        return 1


def turned_box(box: Box, turn: int, size: tuple[float, float]) -> Box:
    """Return a box of a stored picture after an EXIF orientation; only quarter turns, 5 to 8, move it.

    Args:
        box: pixels of the stored picture.
        turn: EXIF orientation, 1 to 8.
        size: width and height of the stored picture.
    """
    if turn not in QUARTER_TURNS:
        return box
    left = size[1] - box.top - box.height if turn in (6, 7) else box.top
    top = size[0] - box.left - box.width if turn in (7, 8) else box.left
    return Box(box.label, left, top, box.height, box.width, box.crowd)
