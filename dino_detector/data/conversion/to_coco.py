"""Writes COCO in Roboflow's layout: ``_annotations.coco.json`` beside the pictures of each split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dino_detector.data.conversion.labelled import Box, Labelled, Notes, Picture

FILE = "_annotations.coco.json"
FOLDERS = {"val": "valid"}
"""Roboflow's name of the validation folder, which RF-DETR expects"""


def coco_folder(split: str) -> str:
    """Return the folder of a split."""
    return FOLDERS.get(split, split)


def write_coco(data: Labelled, folder: Path, notes: Notes) -> None:
    """Write a file for each split; images and boxes are numbered from 1, and classes keep their numbers."""
    assert len(set(data.ids)) == len(data.ids), "two classes have one id"
    categories = [{"id": number, "name": name} for number, name in zip(data.ids, data.classes, strict=True)]
    for split, pictures in data.splits.items():
        images = [_image(number, picture) for number, picture in enumerate(pictures, start=1)]
        boxes = [(number, box) for number, picture in enumerate(pictures, start=1) for box in picture.boxes]
        annotations = [_annotation(number, image, box, data.ids) for number, (image, box) in enumerate(boxes, start=1)]
        (folder / coco_folder(split)).mkdir(parents=True, exist_ok=True)
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (folder / coco_folder(split) / FILE).write_text(json.dumps(content), "utf-8")


def _image(number: int, picture: Picture) -> dict[str, Any]:
    size = picture.known_size
    sides = {"width": size[0], "height": size[1]} if size else {}
    return {"id": number, "file_name": picture.name} | sides


def _annotation(number: int, image: int, box: Box, ids: list[int]) -> dict[str, Any]:
    left, top, width, height = (_short(value) for value in box[1:5])
    content = {"id": number, "image_id": image, "category_id": ids[box.label], "bbox": [left, top, width, height]}
    return content | {"area": _short(width * height), "iscrowd": int(box.crowd)}


def _short(value: float) -> float | int:
    """Return a coordinate rounded to a millionth of a pixel."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
