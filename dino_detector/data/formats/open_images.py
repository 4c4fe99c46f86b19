"""Reads Open Images: a CSV file with a line for each box, in fractions of the image.

The format: https://storage.googleapis.com/openimages/web/download_v7.html. Names of the classes are in
``class-descriptions-boxable.csv`` near the file. hotcoco's reader leaves file names without an extension.
"""

from __future__ import annotations

import csv
from pathlib import Path

from dino_detector.data.coco.entries import Content
from dino_detector.data.formats.rows import Rows
from dino_detector.data.pictures.finding import find_pictures
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
"""columns that every file of boxes has"""


def is_open_images(path: Path) -> bool:
    """Return whether a CSV file has the columns of Open Images."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return set(COLUMNS) <= set(next(csv.reader(file), []))


def read_open_images(path: Path, images: Path | None) -> Content:
    """Read the boxes of the pictures in a folder; a group of objects is a crowd.

    Pictures of the folder without a line have no objects. Without ``images``, the pictures are below the folder of the
    file, and pictures without a line are left out. Lines of absent pictures are left out.

    Raises:
        InputError: a line is wrong; the message names its number.
    """
    folder = images or path.parent
    pictures = find_pictures(folder, recursive=True).pictures
    stems = {picture.stem for picture in pictures}
    names = _class_names(path)
    by_image: dict[str, list[tuple[str, list[float], bool]]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in (reader := csv.DictReader(file)):
            if row["ImageID"] not in stems:
                continue
            try:
                edges = [float(row[edge]) for edge in ("XMin", "YMin", "XMax", "YMax")]
            except (TypeError, ValueError):
                raise InputError(f"{path}, line {reader.line_num}: a box is not four numbers; correct it") from None
            label = names.get(row["LabelName"], row["LabelName"])
            by_image.setdefault(row["ImageID"], []).append((label, edges, row.get("IsGroupOf") == "1"))
    if images is None:
        pictures = [picture for picture in pictures if picture.stem in by_image]
    rows = Rows()
    for picture, (width, height) in zip(pictures, picture_sizes(pictures).tolist(), strict=True):
        across, down = rows.measured(picture.relative_to(folder).as_posix(), width, height)
        for label, (left, top, right, bottom), crowd in by_image.get(picture.stem, ()):
            rows.box(label, left * across, top * down, right * across, bottom * down, crowd=crowd)
    return rows.content()


def _class_names(path: Path) -> dict[str, str]:
    """Return the names of the classes by their identifiers, such as ``/m/0cmf2``; empty if no file lists them."""
    for folder in (path.parent, path.parent.parent):
        for file in sorted(folder.glob("*class-descriptions*.csv")):
            with file.open(encoding="utf-8-sig", newline="") as lines:
                return {row[0]: row[1] for row in csv.reader(lines) if len(row) > 1}
    return {}
