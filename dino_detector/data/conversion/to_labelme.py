"""Writes labelme: a JSON file beside each picture; https://github.com/wkentaro/labelme"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from dino_detector.data.conversion.labelled import Labelled, Notes, Picture


def write_labelme(data: Labelled, folder: Path, notes: Notes) -> None:
    """Write a folder of JSON files for each split."""
    for split, pictures in data.splits.items():
        for below in {(folder / split / picture.name).parent for picture in pictures}:
            below.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            content = json.dumps(_content(picture, data.classes), indent=1)
            (folder / split / f"{picture.stem}.json").write_text(content, "utf-8")
    if "val" in data.splits and "train" not in data.splits:
        notes.say("no train split", "tools see one split; give them its folder val")
    notes.crowds(data, "labelme")
    notes.unused_classes(data, "labelme")


def _content(picture: Picture, classes: list[str]) -> dict[str, Any]:
    width, height = picture.known_size or (None, None)
    shapes = [
        {
            "label": classes[box.label],
            "points": [
                [round(box.left, 6), round(box.top, 6)],
                [round(box.left + box.width, 6), round(box.top + box.height, 6)],
            ],
            "group_id": None,
            "description": "",
            "shape_type": "rectangle",
            "flags": {},
        }
        for box in picture.boxes
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": PurePosixPath(picture.name).name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
