"""Reads CVAT for images 1.1: one XML file; https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/

hotcoco's reader turns the class ``cat &amp; dog`` into ``dog`` and drops the rotation of boxes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import unescape

from dino_detector.data.formats.rows import Reading, Rows
from dino_detector.data.formats.splits import AnnotationFile, files_of, in_order, name_sources, role_of
from dino_detector.data.formats.xml_files import read_xml
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed

BOXLESS = {"polyline", "points", "cuboid", "skeleton"}
"""shapes that are left out"""
LABEL_TYPES = {*BOXLESS, "tag"}
"""types of labels that no box has"""
CVAT_SPLIT = re.compile(r"^(.+\.xml):([^/\\:]+)$")
"""path of a subset of a project: the XML, and the name of the split"""


def find_cvat(folder: Path) -> list[AnnotationFile]:
    """Return the XML files of a folder and its subfolders; the subsets of a project are splits."""
    files = name_sources([*files_of("CVAT", folder, "*.xml", "*/*.xml")], folder, "CVAT")
    return split_by_subset(files[0]) if len(files) == 1 else files


def split_by_subset(file: AnnotationFile) -> list[AnnotationFile]:
    """Return the subsets of a project as splits ``annotations.xml:val``, or the file if it has one subset.

    Beside ``val`` and ``test``, the only other subset is for training.

    Raises:
        InputError: several subsets may be for training.
    """
    try:
        images = re.findall(rb"<image\s[^>]*>", file.path.read_bytes())  # parsing takes ten times as long
    except OSError:  # its reader says what is wrong
        return [file]
    subsets = [re.search(rb"\ssubset=[\"']([^\"']*)", image) for image in images]
    names = {_split_of("" if found is None else unescape(found[1].decode("utf-8", "replace"))) for found in subsets}
    others = sorted(names - {"train", "val", "test"})
    if len(names) == 1 or len(others) == len(names):
        return [file]
    if "train" not in names and len(others) > 1:
        raise InputError(f"{file.path}: has the subsets {listed(sorted(names))}, and none is called train; rename one")
    roles = {name: name for name in names}
    if "train" not in names and others:
        roles["train"] = roles.pop(others[0])
    return in_order(
        {role: AnnotationFile(role, Path(f"{file.path}:{name}"), format="CVAT") for role, name in roles.items()}
    )


def _split_of(subset: str) -> str:
    """Return the name of the split of a subset: train, val, test, or its own name in lower case."""
    subset = subset or "default"
    return role_of(Path(subset), Path()) or re.sub(r"[/\\:]", "_", subset.lower())


def read_cvat(source: AnnotationFile) -> Reading:
    """Read a file of images; a rotated box, an ellipse, a mask and a polygon become the box around them.

    Raises:
        InputError: the file is damaged or has the tracks of a video, or a shape is wrong.
    """
    named = CVAT_SPLIT.match(str(source.path))
    path, split = (Path(named[1]), named[2]) if named else (source.path, None)
    root = read_xml(path, "annotations")
    if root.find("track") is not None:
        raise InputError(f"{path}: has the tracks of a video; export the task as CVAT for images 1.1 with its frames")
    labels = [label for label in root.iterfind("meta//labels/label") if label.find("parent") is None]
    labels = [label for label in labels if (label.findtext("type") or "").strip() not in LABEL_TYPES]
    names = [(label.findtext("name") or "").strip() for label in labels]  # a point of a skeleton has a parent
    shapes = (shape for image in root.iterfind("image") for shape in image)
    names += [shape.get("label", "") for shape in shapes if shape.tag not in LABEL_TYPES]
    classes = {name: number for number, name in enumerate(dict.fromkeys(filter(None, names)), start=1)}
    rows, left_out = Rows({number: name for name, number in classes.items()}, unit="shape"), Counter()
    for image in root.iterfind("image"):
        if split not in (None, _split_of(image.get("subset", ""))):
            continue
        name = image.get("name") or ""
        try:
            rows.image(name, **{side: int(float(image.get(side) or 0)) for side in ("width", "height")})
        except (ValueError, OverflowError) as error:
            raise InputError(f"{path}: image {name!r} has a wrong width or height ({error}); correct it") from error
        for number, shape in enumerate(image, start=1):
            if shape.tag in BOXLESS:
                left_out[shape.tag] += 1
            elif shape.tag != "tag":
                try:
                    rows.polygon(classes[shape.get("label")], _outline(shape), (f"{path}, image {name}", number))
                except (KeyError, TypeError, ValueError) as error:
                    raise InputError(
                        f"{path}: image {name!r} has a wrong <{shape.tag}> ({error}); correct it"
                    ) from error
    if split is not None and not rows.images:
        raise InputError(f"{path}: has no image of the split {split}; correct the path {source.path}")
    kinds = ", ".join(f"{count:,} <{kind}>" for kind, count in left_out.items())
    verb = "has no box and is" if left_out.total() == 1 else "have no box and are"
    return rows.reading(f"{counted(left_out.total(), 'shape')} ({kinds}) {verb} left out" if left_out else None)


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
