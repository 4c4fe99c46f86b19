"""Read the annotations of any labelling tool as the entries of a COCO file.

===============================  =====================================================
Tool                             Path of the annotations of a split
===============================  =====================================================
COCO, Roboflow, Label Studio     the JSON
YOLO                             ``data.yaml:train``, or the folder of ``classes.txt``
Pascal VOC                       ``ImageSets/Main/train.txt``, or the folder of the XML files
labelme                          the folder of the JSON files
CVAT for images                  the XML
CreateML                         the JSON
Open Images                      the CSV
===============================  =====================================================
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from dino_detector.data.coco.entries import Content, read_content
from dino_detector.data.formats.createml import read_createml
from dino_detector.data.formats.cvat import read_cvat
from dino_detector.data.formats.labelme import read_labelme
from dino_detector.data.formats.open_images import read_open_images
from dino_detector.data.formats.rows import files_below
from dino_detector.data.formats.voc import read_voc
from dino_detector.data.formats.yolo import YOLO_SPLIT, classes_file, read_yolo
from dino_detector.storage.files import paused_collection, read_json

log = logging.getLogger(__name__)


def format_of(path: Path) -> str:
    """Return the name of the format at a path of the table of this module; COCO if no other fits."""
    suffix = path.suffix.lower()
    if YOLO_SPLIT.match(str(path)) or (path.is_dir() and classes_file(path)):
        return "YOLO"
    if suffix == ".txt" or (path.is_dir() and next(files_below(path, "*.xml"), None)):
        return "Pascal VOC"
    if path.is_dir():
        return "labelme"
    others = {".xml": "CVAT", ".csv": "Open Images"}
    return "CreateML" if suffix == ".json" and _lists_images(path) else others.get(suffix, "COCO")


def read_annotations(path: Path, *, images: Path | None = None) -> Content:
    """Read the annotations of a split; log shapes without a box, and label files without a picture.

    Args:
        path: see the table of this module.
        images: folder of the images; Open Images, whose boxes are fractions, needs it.

    Raises:
        InputError: the annotations are missing or damaged; the message names the file and the entry.
    """
    with paused_collection():
        match format_of(path):
            case "YOLO":
                content, left_out = read_yolo(path)
            case "Pascal VOC":
                return read_voc(path)
            case "Open Images":
                return read_open_images(path, images)
            case "CreateML":
                return read_createml(read_json(path), path)
            case "labelme":
                content, left_out = read_labelme(path)
            case "CVAT":
                content, left_out = read_cvat(path)
            case _:
                return read_content(path)
    if left_out:
        log.warning("%s: %s", path, left_out)
    return content


def annotations_exist(path: Path) -> bool:
    """Return whether there is a file or folder of annotations at a path of the table of this module."""
    named = YOLO_SPLIT.match(str(path))
    return Path(named[1]).is_file() if named else path.exists()


def has_class_ids(path: Path) -> bool:
    """Return whether the format stores class ids, as COCO and YOLO do; other formats store class names only."""
    return format_of(path) in ("COCO", "YOLO")


def _lists_images(path: Path) -> bool:
    """Return whether a JSON file begins like CreateML, a list of objects with annotations; False if unreadable."""
    try:
        with path.open("rb") as file:
            return re.match(rb'(\xef\xbb\xbf)?\s*\[\s*\{.*"annotations?"', file.read(2**16), re.DOTALL) is not None
    except OSError:
        return False
