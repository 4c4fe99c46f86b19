"""Names of pictures that a format and every file system can hold, each for one picture alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from dino_detector.data.conversion.labelled import Notes, Picture, without_extension
from dino_detector.data.pictures.finding import picture_extensions

UNSAFE = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""backslashes, control characters, line ends and characters that XML lacks"""
LIST_MARK = re.compile(r"\s+(?=-?[01]$)")
"""space before the mark of a picture in a list of a class of Pascal VOC"""
COCO_NAME = "instances_"
"""start of names of COCO files"""
OWN_FOLDER = "images"
"""folder of the pictures in YOLO and CVAT; YOLO looks for labels in the folder that replaces the last one"""
EXTENSIONS = {"JPEG": ".jpg", "TIFF": ".tif", "MPO": ".jpg"}


def safe_name(name: str, file: Path | None, form: str) -> str:
    """Return a relative path that stays in its folder, and that files of a format can name.

    Args:
        name: file name in the annotations, or path of the picture on disk.
        file: the picture on disk.
        form: the target format.
    """
    given = name if file is not None else name.replace("\\", "/")
    is_absolute = given.startswith(("/", "~")) or re.match(r"[A-Za-z]:", given) or "://" in given
    parts = [part for part in given.split("/") if part not in ("", ".")]
    last_up = max((place for place, part in enumerate(parts, start=1) if part == ".."), default=0)
    parts = parts[-1:] if is_absolute else parts[last_up:]
    parts = [UNSAFE.sub("_", part) for part in parts if part != ".."] or ["unnamed"]
    if form == "coco":
        return "/".join(parts)
    parts = [re.sub(r"^\.", "_.", part.strip()) or "_" for part in parts]  # readers pass over hidden files
    if form != "cvat" and file is not None and not parts[-1].lower().endswith(tuple(picture_extensions())):
        parts[-1] += _extension_of(file)  # readers know pictures by their extension
    parts[:-1] = [part for part in parts[:-1] if part != OWN_FOLDER]
    if form == "labelme" and parts[-1].startswith(COCO_NAME):
        parts[-1] = f"_{parts[-1]}"
    if form == "voc":
        stem = without_extension(parts[-1])
        parts[-1] = LIST_MARK.sub("_", stem.rstrip()) + parts[-1][len(stem) :]
    return "/".join(parts)


def _extension_of(file: Path) -> str:
    try:
        with Image.open(file) as image:
            return EXTENSIONS.get(image.format or "", f".{(image.format or 'jpg').lower()}")
    except Exception:  # any exception of a decoder
        return ".jpg"


def give_names(groups: Sequence[Sequence[Picture]], form: str, notes: Notes, *, folds: bool) -> None:
    """Give each picture a safe name; no two pictures of a group share a name, or the name of a file of labels.

    Args:
        groups: pictures that go to the same folder.
        form: the target format.
        notes: takes the changed names.
        folds: whether the file system takes names that differ only in letter case or Unicode form as equal.
    """
    by_stem = form in ("yolo", "voc", "labelme")

    def key(name: str) -> str:
        name = without_extension(name) if by_stem else name
        return unicodedata.normalize("NFC", name).casefold() if folds else name

    moved, unsafe, shared = [], [], []
    for pictures in groups:
        wanted = [safe_name(picture.name, picture.file, form) for picture in pictures]
        taken: dict[str, int] = {}
        for position, name in enumerate(wanted):
            taken.setdefault(key(name), position)
        for position, (picture, name) in enumerate(zip(pictures, wanted, strict=True)):
            is_first = taken[key(name)] == position
            new = name if is_first else _free_name(name, taken, key)
            if new != picture.name:
                kept = [part for part in picture.name.split("/") if part != OWN_FOLDER]
                changed = shared if not is_first else moved if "/".join(kept) == new else unsafe
                changed.append(f"{picture.name} -> {new}")
                picture.name = new
    notes.add("file name", f"without the folder {OWN_FOLDER}, which has a meaning of its own in YOLO and CVAT", moved)
    notes.add("file name", "changed, as tools would pass over the file or mistake it", unsafe)
    notes.add("file name", f"changed, as another picture has {'its file of labels' if by_stem else 'the name'}", shared)


def _free_name(name: str, taken: dict[str, int], key: Callable[[str], str]) -> str:
    stem = without_extension(name)
    count = 2
    while key(new := f"{stem}_{count}{name[len(stem) :]}") in taken:
        count += 1
    taken[key(new)] = -1
    return new
