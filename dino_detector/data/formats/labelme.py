"""Reads labelme: a JSON file for each picture, with shapes in pixels; https://github.com/wkentaro/labelme"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from dino_detector.data.formats.rows import Reading, Rows, files_below
from dino_detector.data.formats.splits import AnnotationFile, folders_of
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.storage.files import read_json

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""shapes without an area"""


def is_labelme(content: Any) -> bool:
    """Return whether parsed JSON is a file of labelme."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def find_labelme(folder: Path) -> list[AnnotationFile]:
    """Return the folders of JSON files."""
    return folders_of("labelme", folder, "*.json")


def read_labelme(source: AnnotationFile) -> Reading:
    """Read the files of a folder and its subfolders; file names are relative to the folder.

    supervision's reader skips circles, refuses equal names in two folders, and its errors name no file.

    Raises:
        InputError: a file is damaged or a shape has no label or points; the message names the file.
    """
    folder, rows, skipped = source.path, Rows(unit="shape"), 0
    for file in files_below(folder, "*.json"):
        content = read_json(file)
        if not is_labelme(content):
            continue
        size = {"width": content.get("imageWidth"), "height": content.get("imageHeight")}
        rows.image(_file_name(content["imagePath"], file, folder), **size)
        for number, shape in enumerate(content["shapes"], start=1):
            try:
                kind, label = shape.get("shape_type", "polygon"), shape["label"]
                points = [(float(x), float(y)) for x, y in shape["points"]]
                if kind in WITHOUT_AREA or len(points) < 2:
                    skipped += 1
                elif label is None:
                    raise ValueError("its label is null")
                elif kind == "circle":
                    (x, y), edge = points[0], points[1]
                    radius = math.dist((x, y), edge)
                    rows.box(str(label), (x - radius, y - radius, x + radius, y + radius), (file, number))
                else:
                    rows.polygon(str(label), points, (file, number))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise InputError(f"{file}: shape {number} has no label or no points ({error}); correct it") from error
    if not rows.images:
        raise InputError(f"{folder}: holds no annotations; give the folder or the file that a labelling tool wrote")
    left_out = counted(skipped, "point or line without a box is", "points and lines without a box are")
    return rows.reading(f"{left_out} left out" if skipped else None)


def _file_name(named: object, file: Path, folder: Path) -> str:
    """Return the path of a picture below ``folder``; a picture that was moved is expected beside its JSON."""
    given = str(named).replace("\\", "/")
    there = Path(os.path.normpath(file.parent / given))
    if not there.is_relative_to(folder) or not there.is_file():
        there = file.parent / given.rsplit("/", 1)[-1]
    return there.relative_to(folder).as_posix()
