"""Reads CVAT for images 1.1: one XML file; https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/

hotcoco's reader turns the class ``cat &amp; dog`` into ``dog`` and drops the rotation of boxes.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from dino_detector.data.coco.entries import Content
from dino_detector.data.formats.rows import Rows
from dino_detector.data.formats.xml_files import read_xml
from dino_detector.errors import InputError

BOXLESS = {"polyline", "points", "cuboid", "skeleton"}
"""shapes that are left out"""


def read_cvat(path: Path) -> tuple[Content, str | None]:
    """Read a file of images; a rotated box, an ellipse, a mask and a polygon become the box around them.

    Returns:
        The entries, and a line about the shapes that are left out; None if there are none.

    Raises:
        InputError: the file is damaged or has the tracks of a video, or a shape is wrong.
    """
    root = read_xml(path, "annotations")
    if root.find("track") is not None:
        raise InputError(f"{path}: has the tracks of a video; export the task as CVAT for images 1.1 with its frames")
    labels = [label for label in root.iterfind("meta//labels/label") if label.find("parent") is None]
    names = [(label.findtext("name") or "").strip() for label in labels]  # a point of a skeleton has a parent
    names += [shape.get("label", "") for image in root.iterfind("image") for shape in image]
    classes = {name: number for number, name in enumerate(dict.fromkeys(filter(None, names)), start=1)}
    rows, skipped = Rows({number: name for name, number in classes.items()}), 0
    for image in root.iterfind("image"):
        name = image.get("name") or ""
        rows.image(name, **{side: int(float(image.get(side) or 0)) for side in ("width", "height")})
        for shape in image:
            if shape.tag in BOXLESS:
                skipped += 1
            elif shape.tag != "tag":
                try:
                    rows.polygon(classes[shape.get("label")], _outline(shape))
                except (KeyError, TypeError, ValueError) as error:
                    raise InputError(
                        f"{path}: image {name!r} has a wrong <{shape.tag}> ({error}); correct it"
                    ) from error
    return (
        rows.content(),
        f"{skipped:,} lines, points, cuboids and skeletons have no box, and are left out" if skipped else None,
    )


def _outline(shape: Element) -> list[tuple[float, float]]:
    """Return points whose bounding box is the bounding box of a shape, in pixels."""

    def value(name: str) -> float:
        return float(shape.get(name))

    if shape.tag == "polygon":
        return [tuple(map(float, point.split(","))) for point in shape.get("points").split(";")]
    if shape.tag == "mask":
        left, top = value("left"), value("top")
        return [(left, top), (left + value("width"), top + value("height"))]
    turn = math.radians(float(shape.get("rotation") or 0))
    if shape.tag == "ellipse":
        x, y, across, down = (value(name) for name in ("cx", "cy", "rx", "ry"))
        wide = math.hypot(across * math.cos(turn), down * math.sin(turn))
        high = math.hypot(across * math.sin(turn), down * math.cos(turn))
        return [(x - wide, y - high), (x + wide, y + high)]
    left, top, right, bottom = (value(name) for name in ("xtl", "ytl", "xbr", "ybr"))
    x, y = (left + right) / 2, (top + bottom) / 2
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if not turn:
        return corners
    cosine, sine = math.cos(turn), math.sin(turn)
    return [(x + (a - x) * cosine - (b - y) * sine, y + (a - x) * sine + (b - y) * cosine) for a, b in corners]
