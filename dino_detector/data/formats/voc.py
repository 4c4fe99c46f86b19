"""Reads Pascal VOC: an XML file for each picture, and perhaps lists of names in ``ImageSets/Main``.

A split is named by its list, such as ``ImageSets/Main/val.txt``, or by the folder of the XML files. hotcoco's reader
turns the class ``cat &amp; dog`` into ``dog``, takes a file that is cut short, and refuses one without ``<filename>``.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from dino_detector.data.coco.entries import Content
from dino_detector.data.formats.rows import Rows, files_below
from dino_detector.data.formats.xml_files import read_xml
from dino_detector.errors import InputError
from dino_detector.storage.files import read_lines

LISTS = Path("ImageSets", "Main")
"""folder of the lists of names, below the folder of the data set"""
EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Content:
    """Read a list of names, or a folder of XML files and its subfolders; an object that is ``difficult`` is a crowd.

    The corners of VOC are whole pixels that count from 1, so a box reaches from ``xmin - 1`` to ``xmax``.

    Raises:
        InputError: a file is missing or damaged, or a box is wrong; the message names the file.
    """
    rows = Rows()
    for file in _files(path):
        root = read_xml(file, "annotation")
        size = [_whole(root.findtext(f"size/{side}")) for side in ("width", "height")]
        rows.image((root.findtext("filename") or "").strip() or file.stem, width=size[0], height=size[1])
        for number, item in enumerate(root.findall("object"), start=1):
            name = (item.findtext("name") or "").strip()
            if not name:
                raise InputError(f"{file}: object {number} has no name; give it one")
            left, top, right, bottom = _corners(item, file, number)
            rows.box(name, left - 1, top - 1, right, bottom, crowd=(item.findtext("difficult") or "").strip() == "1")
    return rows.content()


def _files(path: Path) -> list[Path]:
    """Return the XML files of a folder, or of the names in a list."""
    if path.is_dir():
        return list(files_below(path, "*.xml"))
    names = dict.fromkeys(re.sub(r"\s+-?[01]$", "", line) for line in read_lines(path))  # lists of a class have marks
    return [path.parents[2] / "Annotations" / f"{name}.xml" for name in names]


def _corners(item: Element, file: Path, number: int) -> list[float]:
    try:
        return [float(item.findtext(f"bndbox/{edge}")) for edge in EDGES]
    except (TypeError, ValueError):
        raise InputError(f"{file}: object {number} has no box of {', '.join(EDGES)} in numbers; correct it") from None


def _whole(text: str | None) -> int | None:
    """Return a side in pixels; None if it is missing, zero or no number."""
    try:
        return int(float(text or 0)) or None
    except ValueError:
        return None
