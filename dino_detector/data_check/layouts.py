"""Finds annotation files and their images in a folder, in the layouts of common tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.pictures.files import picture_extensions
from dino_detector.errors import InputError
from dino_detector.plain_text import listed

KNOWN = (
    "COCO (annotations/instances_train.json and instances_val.json, images in train/ and val/, train2017/ and "
    "val2017/, or images/), Roboflow (train/_annotations.coco.json beside the images, likewise valid/ and test/), "
    "or a JSON with the images beside it, in images/ or in data/"
)
OTHER_KINDS = re.compile(r"^(captions|person_keypoints|panoptic|stuff)_|^(stuff_)?image_info_test-dev")
"""COCO files without boxes, or with the boxes of another file"""
START = 2**16
"""number of bytes at the start of a file in which a COCO detection file names its lists"""
ROLES = {
    **{"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
PACKED = (".gz", ".zip", ".7z", ".tar", ".tgz", ".xz", ".bz2", ".rar", ".zst")
ORDER = ("train", "val", "test")
PROBED = 50
"""number of file names that are looked up to judge a folder of images"""


class Source(NamedTuple):
    """An annotation file and the name of its split."""

    name: str
    path: Path


def find_sources(folder: Path) -> list[Source]:
    """Find the annotation files of a folder, train first.

    Raises:
        InputError: there is none; the message names the known layouts.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder or annotation file; correct the path")
    candidates = [
        path
        for pattern in ("*.json", "*/*.json", "*/annotations/*.json")
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not OTHER_KINDS.search(path.name) and not path.name.startswith(".")
    ]
    instances = [path for path in candidates if path.name.startswith(("instances_", "image_info_"))]
    chosen = instances or [path for path in candidates if _looks_like_coco(path)]
    if not chosen:
        raise InputError(f"{folder}: {_what_is_there(folder, candidates)}; known layouts: {KNOWN}")
    return name_sources(chosen, folder)


def name_sources(paths: Sequence[Path], folder: Path) -> list[Source]:
    """Name each file by its split, in the order train, val, test, others."""
    roles = [role_of(path, folder) for path in paths]
    names = []
    for path, role in zip(paths, roles, strict=True):
        name = role if role is not None and roles.count(role) == 1 else path.stem
        if name in names:
            name = path.relative_to(folder).with_suffix("").as_posix()
        names.append(name)
    found = [Source(name, path) for name, path in zip(names, paths, strict=True)]
    return sorted(found, key=lambda one: (ORDER.index(one.name) if one.name in ORDER else len(ORDER), one.name))


def role_of(path: Path, folder: Path) -> str | None:
    """Return train, val or test by the words in the name of a file, or else of its folders below ``folder``."""
    parents = path.parent.relative_to(folder).parts if path.is_relative_to(folder) else ()
    for part in (path.stem, *reversed(parents)):
        words = re.findall("[a-z]+", part.lower())
        if found := [ROLES[word] for word in words if word in ROLES]:
            return found[-1]
    return None


def find_images_dir(source: Source, file_names: Sequence[str | None], folder: Path) -> Path | None:
    """Return the folder with the files that an annotation file names; None if no folder has any.

    Args:
        source: the annotation file.
        file_names: file names in the annotation file.
        folder: a folder to search, besides the folders near the file.
    """
    named = [name for name in file_names if name]
    probed = named[:: max(1, len(named) // PROBED)][:PROBED]
    best, most = None, 0
    for place in _places(source, folder):
        found = sum(_is_file(place / name) for name in probed)
        if not found:  # perhaps the names without folders are right
            found = sum(_is_file(place / plain_name(name)) for name in probed) / 2
        if found > most:
            best, most = place, found
    if best is None and probed:
        near = ((place, find_image_files(probed, place, split="").names) for place in _places(source, folder))
        best = next((place for place, names in near if any(names)), None)
    return best


def plain_name(name: str) -> str:
    """Return the last part of a path of any operating system."""
    return name.replace("\\", "/").rsplit("/", 1)[-1] or name


def _is_file(path: Path) -> bool:
    """Return whether a file exists; False for impossible names, for which Python would raise."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _places(source: Source, folder: Path) -> Iterable[Path]:
    """Yield folders that may have the images, the likeliest first."""
    stem = re.sub(r"^(instances|image_info|annotations?|labels?)[_-]?", "", source.path.stem)
    spellings = {
        "train": ("train", "train2017", "train2014", "training"),
        "val": ("val", "valid", "val2017", "val2014", "validation"),
        "test": ("test", "test2017", "test2014", "testing"),
    }.get(source.name, ())
    names = [name for name in dict.fromkeys((stem, *spellings, source.name)) if name and Path(name).name == name]
    roots = list(dict.fromkeys((source.path.parent, source.path.parent.parent, folder)))
    seen: set[Path] = set()
    for place in (
        *(root / name for root in roots for name in names),
        *(root / "images" / name for root in roots for name in names),
        *(root / name / "images" for root in roots for name in names),
        *(root / "data" / name for root in roots for name in names),
        *roots,
        *(root / name for root in roots for name in ("images", "data", "img", "imgs", "JPEGImages")),
    ):
        if place not in seen and place.is_dir():
            seen.add(place)
            yield place


def _looks_like_coco(path: Path) -> bool:
    """Return whether a JSON file can be a COCO detection file; True if it can't be read."""
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError:
        return True
    if path.stat().st_size > START:
        return b'"images"' in start or b'"annotations"' in start
    try:
        content = json.loads(start.decode("utf-8-sig"))
    except ValueError:
        return b'"images"' in start
    return isinstance(content, dict) and isinstance(content.get("images"), list)


def _what_is_there(folder: Path, candidates: Sequence[Path]) -> str:
    """Return the reason why there is nothing to check."""
    packed = [path.name for path in islice(folder.rglob("*"), 1000) if path.suffix.lower() in PACKED]
    if packed:
        return f"holds compressed files ({listed(packed)}); unpack them first"
    texts = list(islice(folder.rglob("*.txt"), 200))
    if (folder / "data.yaml").is_file() or any(path.parent.name == "labels" for path in texts):
        return "holds YOLO labels, not COCO; convert them to COCO JSON"
    if any(path.parent.name.lower() == "annotations" for path in islice(folder.rglob("*.xml"), 200)):
        return "holds Pascal VOC files, not COCO; convert them to COCO JSON"
    if candidates:
        names = ", ".join(path.name for path in candidates[:3])
        return f"no COCO detection file among its JSON files ({names}{', ...' if len(candidates) > 3 else ''})"
    pictures = any(path.suffix.lower() in picture_extensions() for path in islice(folder.rglob("*"), 1000))
    return "holds pictures but no annotation file" if pictures else "no annotation file in it"
