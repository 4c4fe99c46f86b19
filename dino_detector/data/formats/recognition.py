"""Recognises the format of an annotation file by its beginning."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path

START = 2**16
"""number of bytes at the start of a file in which a COCO detection file names its lists"""
FIRST = 2**12
"""number of bytes that tell most files; data sets of labelme have a file for each picture"""
LABEL_STUDIO = "Label Studio JSON"
"""Label Studio's own JSON and its JSON-MIN, which are recognised only to name the exports that can be read"""
COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
"""columns that every file of boxes of Open Images has"""
COCO_LIST = re.compile(rb'"images"\s*:\s*\[')
COCO_WORD = re.compile(rb'"(images|annotations)"')
LABELME_LIST = re.compile(rb'"shapes"\s*:\s*\[')
CREATEML = re.compile(rb'^\W*\[\s*\{.*"annotations?"', re.DOTALL)
LABEL_STUDIO_KEY = re.compile(rb'"(result|original_width|(rectangle|polygon|brush|keypoint|ellipse)labels)"\s*:')
XML_ROOT = re.compile(rb"<annotation(s?)[\s>]")


def format_of_file(path: Path) -> str:
    """Return the format that a file begins like, a key of `dino_detector.data.formats.reading.FORMATS`.

    `LABEL_STUDIO` stands for a file that must be exported again.
    An empty text stands for another file. A JSON file that can't be read counts as COCO, whose reader tells the reason.
    """
    try:
        status = path.stat()
    except OSError:
        return ""
    return _format_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2**16)
def _format_of(path: Path, *unchanged: int) -> str:
    """Return the format; ``unchanged`` are the time and the length of the file that was read."""
    if not path.is_file():
        return ""
    match path.suffix.lower():
        case ".json":
            return _format_of_json(path)
        case ".xml":
            found = XML_ROOT.search(_start(path, START))
            return "" if found is None else "CVAT" if found[1] else "Pascal VOC"
        case ".csv":
            return "Open Images" if _has_columns(path) else ""
    return ""


def _format_of_json(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(FIRST)
            if not COCO_LIST.search(start) and not LABELME_LIST.search(start):
                start += file.read(START - FIRST)
    except OSError:
        return "COCO"
    start, length = start.replace(b"\0", b""), len(start)  # in UTF-16, too
    if start.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"["):
        if LABEL_STUDIO_KEY.search(start):
            return LABEL_STUDIO
        return "CreateML" if CREATEML.search(start) else ""
    if COCO_LIST.search(start):
        return "COCO"
    if LABELME_LIST.search(start):
        return "labelme"
    return "COCO" if length >= START and COCO_WORD.search(start) else ""


def _start(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(length).replace(b"\0", b"")  # in UTF-16, too
    except OSError:
        return b""


def _has_columns(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return set(COLUMNS) <= set(next(csv.reader(file), []))
    except (OSError, csv.Error):
        return False
