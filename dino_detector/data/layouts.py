"""Finds the annotations and the images of a data set, in the layouts of common labelling tools."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.formats.cvat import CVAT_SPLIT, split_by_subset
from dino_detector.data.formats.reading import FORMATS
from dino_detector.data.formats.recognition import LABEL_STUDIO, format_of_file
from dino_detector.data.formats.rows import files_below
from dino_detector.data.formats.splits import SPELLINGS, AnnotationFile, name_sources
from dino_detector.data.formats.voc import voc_list
from dino_detector.data.formats.yolo import YOLO_SPLIT, split_of_yaml, splits_of_yaml
from dino_detector.data.pictures.finding import evenly_spaced, picture_extensions
from dino_detector.errors import InputError
from dino_detector.plain_text import listed

KNOWN = (
    "COCO (annotations/instances_train.json and instances_val.json, or a JSON beside the images), YOLO (data.yaml), "
    "Pascal VOC (Annotations/*.xml), labelme, CVAT for images, CreateML and Open Images"
)
PACKED = (".gz", ".zip", ".7z", ".tar", ".tgz", ".xz", ".bz2", ".rar", ".zst")
EXPORT_AGAIN = "{}: is Label Studio's own JSON, which is not read; in Label Studio export COCO or YOLO, with images"
PROBED = 50
"""number of file names that are looked up to judge a folder of images"""


def find_sources(data: Path) -> list[AnnotationFile]:
    """Find the annotations of a folder or file in the format of any labelling tool, train first.

    Raises:
        InputError: there are none; the message names the known layouts.
    """
    if split := _named_split(data):
        return [split]
    if data.is_file():
        return _sources_of_file(data)
    if not data.is_dir():
        raise InputError(f"{data}: no such folder or annotation file; correct the path")
    for form in FORMATS.values():
        if found := form.find(data):
            return found
    if own := [path for path in files_below(data, "*.json") if format_of_file(path) == LABEL_STUDIO]:
        raise InputError(EXPORT_AGAIN.format(own[0]))
    raise InputError(f"{data}: {_what_is_there(data)}; known layouts: {KNOWN}")


def source_of(path: Path) -> AnnotationFile:
    """Return the annotations at a path that names one split, such as a COCO JSON, ``data.yaml:val`` or a folder.

    The reader of COCO files reports a file that is missing or that nobody recognises.

    Raises:
        InputError: the path has several splits, or a folder has none.
    """
    if not path.exists() and not _named_split(path):
        return AnnotationFile(path.stem, path)
    found = find_sources(path)
    if len(found) > 1:
        named = "give one of them" if path.is_dir() else f"give one, such as {found[-1].path}"
        raise InputError(f"{path}: has the splits {listed([one.name for one in found])}; {named}")
    return found[0]


def annotations_exist(path: Path) -> bool:
    """Return whether there is a file or folder of annotations, or a file with a split, at a path."""
    named = YOLO_SPLIT.match(str(path)) or CVAT_SPLIT.match(str(path))
    return path.exists() or (named is not None and Path(named[1]).is_file())


def _named_split(path: Path) -> AnnotationFile | None:
    """Return the split of a path such as ``data.yaml:val`` or ``annotations.xml:val``; None for another path."""
    if named := YOLO_SPLIT.match(str(path)):
        return split_of_yaml(path, named[2])
    if (named := CVAT_SPLIT.match(str(path))) and not path.exists():
        return AnnotationFile(named[2], path, format="CVAT")
    return None


def _sources_of_file(path: Path) -> list[AnnotationFile]:
    """Return the splits of a single file; a JSON or another text that nobody recognises is left to COCO's reader."""
    if path.suffix.lower() in (".yaml", ".yml", ".data"):
        return splits_of_yaml(path)
    if path.suffix.lower() == ".txt":
        return [voc_list(path)]
    kind = format_of_file(path)
    if kind == LABEL_STUDIO:
        raise InputError(EXPORT_AGAIN.format(path))
    if kind == "Pascal VOC":
        raise InputError(f"{path}: has the boxes of one picture; give the folder of the XML files")
    if path.suffix.lower() == ".xml":
        kind = "CVAT"
    (source,) = name_sources([path], path.parent, "COCO" if kind in ("", "labelme") else kind)
    return split_by_subset(source) if kind == "CVAT" else [source]


def find_images_dir(
    file_names: Sequence[str | None], *, source: AnnotationFile, folder: Path, given: Path | None
) -> Path | None:
    """Return the folder with the images that an annotation file names; None if no folder has any.

    The folder that the user names, ``given``, is returned. Otherwise ``folder`` and folders near the file are searched.
    """
    named = [name for name in file_names if name]
    if given or source.images or not named:
        return given or source.images
    probed = evenly_spaced(named, PROBED)
    places = _places(source, folder)

    def hits(place: Path) -> float:
        """Return the number of files that are there; files whose names have other folders count half."""
        is_file = os.path.isfile  # Path.is_file raises for names that no file can have
        found = sum(is_file(place / name) for name in probed)
        return found or sum(is_file(place / plain_name(name)) for name in probed) / 2

    best = max(places, key=hits)
    if hits(best):
        return best
    return next((place for place in places if any(find_image_files(probed, place, split="").names)), None)


def plain_name(name: str) -> str:
    """Return the last part of a path of any operating system."""
    return name.replace("\\", "/").rsplit("/", 1)[-1] or name


def _places(source: AnnotationFile, folder: Path) -> list[Path]:
    """Return folders that may have the images, the likeliest first."""
    stem = re.sub(r"^(instances|image_info|annotations?|labels?)[_-]?", "", source.path.stem)
    names = [name for name in (stem, *SPELLINGS.get(source.name, ()), source.name) if name and Path(name).name == name]
    forms = [[form.format(name) for name in names] for form in ("{}", "images/{}", "{}/images", "data/{}")]
    forms += [[""], ["images", "data", "img", "imgs", "JPEGImages"]]
    roots = (source.path.parent, source.path.parent.parent, folder)
    places = dict.fromkeys(root / below for form in forms for root in roots for below in form)
    return [place for place in places if place.is_dir()]


def _what_is_there(folder: Path) -> str:
    """Return the reason why there are no annotations."""
    files = list(islice(folder.rglob("*"), 1000))
    packed = [path.name for path in files if path.suffix.lower() in PACKED]
    if packed:
        return f"holds compressed files ({listed(packed)}); unpack them first"
    if any("labels" in path.parts for path in folder.rglob("*.txt")):
        return "holds YOLO labels but neither data.yaml nor classes.txt; write the names of the classes to one of them"
    if others := [path.name for path in files if path.suffix == ".json"]:
        return f"no detection file among its JSON files ({listed(others)})"
    pictures = any(path.suffix.lower() in picture_extensions() for path in files)
    return "holds pictures but no annotation file" if pictures else "no annotation file in it"
