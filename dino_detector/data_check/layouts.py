"""Finds annotation files and their images in a folder, in the layouts of common tools."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.pictures.finding import evenly_spaced, picture_extensions
from dino_detector.errors import InputError
from dino_detector.plain_text import listed

KNOWN = (
    "COCO (annotations/instances_train.json and instances_val.json, images in train/ and val/, train2017/ and "
    "val2017/, or images/), Roboflow (train/_annotations.coco.json beside the images, likewise valid/ and test/), "
    "or a JSON with the images beside it, in images/ or in data/"
)
OTHER_KINDS = re.compile(r"^(captions|person_keypoints|panoptic|stuff)_|^(stuff_)?image_info_test-dev|^\.")
"""COCO files without boxes, or with the boxes of another file, and hidden files"""
START = 2**16
"""number of bytes at the start of a file in which a COCO detection file names its lists"""
SPELLINGS = {
    "train": ("train", "train2017", "train2014", "training"),
    "val": ("val", "valid", "val2017", "val2014", "validation"),
    "test": ("test", "test2017", "test2014", "testing"),
}
"""names of the folders of each split, in the order of the splits"""
PACKED = (".gz", ".zip", ".7z", ".tar", ".tgz", ".xz", ".bz2", ".rar", ".zst")
PROBED = 50
"""number of file names that are looked up to judge a folder of images"""


class AnnotationFile(NamedTuple):
    """An annotation file and the name of its split."""

    name: str
    path: Path


def find_sources(folder: Path) -> list[AnnotationFile]:
    """Find the annotation files of a folder, train first.

    Raises:
        InputError: there is none; the message names the known layouts.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder or annotation file; correct the path")
    found = chain.from_iterable(sorted(folder.glob(form)) for form in ("*.json", "*/*.json", "*/annotations/*.json"))
    candidates = [path for path in found if path.is_file() and not OTHER_KINDS.search(path.name)]
    if any(path.name.startswith("instances_") for path in candidates):  # COCO's own names
        chosen = [path for path in candidates if path.name.startswith(("instances_", "image_info_"))]
    else:
        chosen = [path for path in candidates if _looks_like_coco(path)]
    if not chosen:
        raise InputError(f"{folder}: {_what_is_there(folder, candidates)}; known layouts: {KNOWN}")
    return name_sources(chosen, folder)


def name_sources(paths: Sequence[Path], folder: Path) -> list[AnnotationFile]:
    """Name each file by its split, in the order train, val, test, others."""
    roles = [_role_of(path, folder) for path in paths]
    sources: dict[str, AnnotationFile] = {}
    for path, role in zip(paths, roles, strict=True):
        name = role if role is not None and roles.count(role) == 1 else path.stem
        if name in sources:
            name = path.relative_to(folder).with_suffix("").as_posix()
        sources[name] = AnnotationFile(name, path)
    order = [name for name in SPELLINGS if name in sources]
    return [sources[name] for name in (*order, *sorted(sources.keys() - SPELLINGS.keys()))]


def _role_of(path: Path, folder: Path) -> str | None:
    """Return train, val or test by the words in the name of a file, or else of its folders below ``folder``."""
    parents = path.parent.relative_to(folder).parts if path.is_relative_to(folder) else ()
    for part in (path.stem, *reversed(parents)):
        for word in reversed(re.findall("[a-z]+", part.lower())):
            for role, spellings in SPELLINGS.items():
                if word in spellings:
                    return role
    return None


def find_images_dir(
    file_names: Sequence[str | None], *, source: AnnotationFile, folder: Path, given: Path | None
) -> Path | None:
    """Return the folder with the images that an annotation file names; None if no folder has any.

    The folder that the user names, ``given``, is returned. Otherwise ``folder`` and folders near the file are searched.
    """
    named = [name for name in file_names if name]
    if given or not named:
        return given
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


def _looks_like_coco(path: Path) -> bool:
    """Return whether a JSON file can be a COCO detection file; True if it can't be read."""
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError:
        return True
    lists = rb'"images"\s*:\s*\[' if len(start) < START else rb'"(images|annotations)"'
    return re.search(lists, start.replace(b"\0", b"")) is not None  # in UTF-16, too


def _what_is_there(folder: Path, candidates: Sequence[Path]) -> str:
    """Return the reason why there is nothing to check."""
    files = list(islice(folder.rglob("*"), 1000))
    packed = [path.name for path in files if path.suffix.lower() in PACKED]
    if packed:
        return f"holds compressed files ({listed(packed)}); unpack them first"
    if (folder / "data.yaml").is_file() or any(folder.rglob("labels/*.txt")):
        return "holds YOLO labels, not COCO; convert them to COCO JSON"
    if any(folder.rglob("[Aa]nnotations/*.xml")):
        return "holds Pascal VOC files, not COCO; convert them to COCO JSON"
    if candidates:
        return f"no COCO detection file among its JSON files ({listed([path.name for path in candidates])})"
    pictures = any(path.suffix.lower() in picture_extensions() for path in files)
    return "holds pictures but no annotation file" if pictures else "no annotation file in it"
