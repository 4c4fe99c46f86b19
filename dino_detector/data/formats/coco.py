"""Finds COCO files: COCO's own names, and the exports of Roboflow, Label Studio, CVAT and FiftyOne."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from dino_detector.data.coco.entries import read_content
from dino_detector.data.formats.recognition import format_of_file
from dino_detector.data.formats.rows import Reading
from dino_detector.data.formats.splits import AnnotationFile, name_sources

OTHER_KINDS = re.compile(r"^(captions|person_keypoints|panoptic|stuff)_|^(stuff_)?image_info_test-dev|^\.")
"""COCO files without boxes, or with the boxes of another file, and hidden files"""


def find_coco(folder: Path) -> list[AnnotationFile]:
    """Return the COCO files of a folder, of its subfolders, and of their folders ``annotations``."""
    found = chain.from_iterable(sorted(folder.glob(form)) for form in ("*.json", "*/*.json", "*/annotations/*.json"))
    candidates = [path for path in found if path.is_file() and not OTHER_KINDS.search(path.name)]
    if any(path.name.startswith("instances_") for path in candidates):  # COCO's own names
        chosen = [path for path in candidates if path.name.startswith(("instances_", "image_info_"))]
    else:
        chosen = [path for path in candidates if format_of_file(path) == "COCO"]
    return name_sources(chosen, folder, "COCO")


def read_coco(source: AnnotationFile) -> Reading:
    """Read a COCO file; raise `InputError` if it is no COCO file."""
    return Reading(read_content(source.path))
