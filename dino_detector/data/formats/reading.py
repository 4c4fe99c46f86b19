"""Reads the annotations of any labelling tool as the entries of a COCO file.

===============================  =====================================================
Tool                             Path of the annotations of a split
===============================  =====================================================
COCO, Roboflow, Label Studio     the JSON
YOLO                             ``data.yaml:train``, or the folder of ``classes.txt``
Pascal VOC                       ``ImageSets/Main/train.txt``, or the folder of the XML files
labelme                          the folder of the JSON files
CVAT for images                  the XML, or ``annotations.xml:train`` for a subset of a project
CreateML                         the JSON
Open Images                      the CSV
===============================  =====================================================
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.formats.coco import find_coco, read_coco
from dino_detector.data.formats.createml import find_createml, read_createml
from dino_detector.data.formats.cvat import find_cvat, read_cvat
from dino_detector.data.formats.labelme import find_labelme, read_labelme
from dino_detector.data.formats.open_images import find_open_images, read_open_images
from dino_detector.data.formats.rows import Reading
from dino_detector.data.formats.splits import AnnotationFile
from dino_detector.data.formats.voc import find_voc, read_voc
from dino_detector.data.formats.yolo import find_yolo, read_yolo
from dino_detector.storage.files import paused_collection

log = logging.getLogger(__name__)


class Format(NamedTuple):
    """A format of annotations.

    Attributes:
        find: returns the splits of a folder; an empty list if the folder has another format.
        read: reads a split, and raises `InputError` that names the file and the entry of a mistake.
        has_class_ids: whether files store ids of classes; otherwise classes have names only.
    """

    find: Callable[[Path], list[AnnotationFile]]
    read: Callable[[AnnotationFile], Reading]
    has_class_ids: bool = False


FORMATS = {
    "COCO": Format(find_coco, read_coco, has_class_ids=True),
    "YOLO": Format(find_yolo, read_yolo, has_class_ids=True),
    "Pascal VOC": Format(find_voc, read_voc),
    "CVAT": Format(find_cvat, read_cvat),
    "CreateML": Format(find_createml, read_createml),
    "labelme": Format(find_labelme, read_labelme),
    "Open Images": Format(find_open_images, read_open_images),
}
"""every format by its name, in the order in which a folder is tried"""


def read_annotations(source: AnnotationFile) -> Reading:
    """Read the annotations of a split; log what its reader leaves out.

    Raises:
        InputError: the annotations are missing or damaged; the message names the file and the entry.
    """
    with paused_collection():
        reading = FORMATS[source.format].read(source)
    for note in reading.notes:
        log.warning("%s: %s", source.path, note)
    return reading
