"""Reads YOLO data sets as Ultralytics does: https://docs.ultralytics.com/datasets/detect/

A split is named ``data.yaml:val``: the file that lists the classes and the pictures, and the name of the split. A
folder with ``classes.txt``, ``images/`` and ``labels/``, which Label Studio writes, is one split.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dino_detector.data.coco.entries import Content
from dino_detector.data.formats.rows import Rows
from dino_detector.data.pictures.finding import find_pictures
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed
from dino_detector.storage.files import read_lines

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""keys of ``data.yaml`` by split"""
CLASSES = ("classes.txt", "labels.txt", "obj.names")
"""files with a class name on each line"""
YOLO_SPLIT = re.compile(r"^(.+\.ya?ml):(train|val|test)$")
"""path of a split: the ``data.yaml``, and the name of the split"""


class YoloSplit(NamedTuple):
    """The pictures of a split, the folder above all of them, and the class names by index.

    With ``keypoints``, a box is followed by keypoints.
    """

    pictures: list[Path]
    folder: Path
    classes: dict[int, str]
    keypoints: bool = False


def is_data_yaml(path: Path) -> bool:
    """Return whether a YAML file lists classes and pictures."""
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return path.name == "data.yaml"  # its reader says what is wrong
    return isinstance(content, dict) and "names" in content and bool({"train", "val", "valid", "test"} & content.keys())


def yolo_splits(path: Path) -> dict[str, Path]:
    """Return the path ``data.yaml:SPLIT`` of each split that a ``data.yaml`` names, train first.

    Exports without test pictures name their folder all the same: a missing test split is left out.
    """
    content = _data_yaml(path)
    named = {name: _places(content, name) for name in SPLITS}
    if isinstance(named["test"], str) and not _existing(named["test"], _root(content, path), path):
        del named["test"]
    return {name: Path(f"{path}:{name}") for name, place in named.items() if place}


def find_yolo(path: Path) -> YoloSplit:
    """Find the pictures of a split ``data.yaml:NAME``, or of a folder with ``classes.txt``.

    Raises:
        InputError: ``data.yaml`` or a path in it is wrong, or there is no picture.
    """
    listed, named = classes_file(path), YOLO_SPLIT.match(str(path))
    if listed is not None:
        content, names = {}, read_lines(listed)
        pictures = find_pictures(path / "images" if (path / "images").is_dir() else path, recursive=True).pictures
        classes = dict(enumerate(names))
    else:
        file, split = named.groups()
        content = _data_yaml(Path(file))
        classes = _class_names(content.get("names"), Path(file))
        found = _places(content, split)
        if found is None:
            raise InputError(f"{file}: names no pictures for {split}; add the line {split}: images/{split}")
        root = _root(content, Path(file))
        places = found if isinstance(found, list) else [found]
        pictures = [picture for place in places for picture in _pictures(str(place), root, Path(file))]
    if any(picture.is_absolute() for picture in pictures):
        pictures = [picture.absolute() for picture in pictures]
    folder = Path(os.path.commonpath([picture.parent for picture in pictures]))
    return YoloSplit(pictures, folder, classes, "kpt_shape" in content)


def classes_file(folder: Path) -> Path | None:
    """Return the list of classes of a folder with YOLO labels; None if it has none."""
    return next((folder / name for name in CLASSES if (folder / name).is_file()), None)


def read_yolo(path: Path) -> tuple[Content, str | None]:
    """Read the labels of a split: a line is a class and a box, centre and size as fractions, or a class and a polygon.

    An empty or missing label file means that the picture has no objects.

    Returns:
        The entries, and a line about label files that are not where they are expected; None if there are none.

    Raises:
        InputError: a line is wrong; the message names its file and number, and counts the other wrong lines.
    """
    split = find_yolo(path)
    sizes = picture_sizes(split.pictures)
    rows, wrong = Rows(split.classes), []
    for picture, (width, height) in zip(split.pictures, sizes.tolist(), strict=True):
        scale = rows.measured(picture.relative_to(split.folder).as_posix(), width, height)
        labels = label_path(picture)
        try:
            lines = labels.read_text("utf-8-sig").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{labels}: cannot be read as text ({error}); correct the file") from error
        for number, line in enumerate(lines, start=1):
            if line.strip() and (reason := _add(rows, line.split(), scale, split.keypoints)):
                wrong.append(f"{labels}, line {number}: {reason}")
    if wrong:
        others = f"; {len(wrong) - 1:,} more lines are wrong" if len(wrong) > 1 else ""
        raise InputError(f"{wrong[0]}; correct the line{others}")
    return rows.content(), _lost_labels(split.pictures)


def _lost_labels(pictures: list[Path]) -> str | None:
    expected = {label_path(picture) for picture in pictures}
    folders = {path.parent for path in expected}
    there = {path for folder in folders for path in folder.glob("*.txt") if path.name not in CLASSES}
    if not there & expected:
        return f"none of {counted(len(pictures), 'picture')} has a label file, such as {label_path(pictures[0])}"
    lost = sorted(path.name for path in there - expected)
    return f"{counted(len(lost), 'label file')} without a picture: {listed(lost)}" if lost else None


def label_path(picture: Path) -> Path:
    """Return the label file: ``labels`` replaces the last folder named ``images``, or the label is beside."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    there, beside = Path(*parts).with_suffix(".txt"), picture.with_suffix(".txt")
    return beside if beside.is_file() and not there.is_file() else there


def _add(rows: Rows, words: list[str], scale: tuple[float, float], keypoints: bool) -> str | None:
    """Add the box of a line to the last image; return the reason if the line is wrong."""
    try:
        kind, *numbers = (float(word) for word in words)
    except ValueError:
        return f"{' '.join(words)[:60]!r} is not a list of numbers"
    if not kind.is_integer() or int(kind) not in rows.classes:
        return f"class {words[0][:20]} is not among the {len(rows.classes)} classes, which count from 0"
    if not all(map(math.isfinite, numbers)):
        return "a number is not finite"
    numbers = numbers[:4] if keypoints else numbers
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        return f"has {len(words)} numbers; a box has 5, a polygon an odd number from 7"
    pairs = [(x * scale[0], y * scale[1]) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    if len(numbers) > 4:
        rows.polygon(int(kind), pairs)
    else:
        (x, y), (width, height) = pairs
        rows.box(int(kind), x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return None


def _data_yaml(path: Path) -> dict[str, object]:
    try:
        content = yaml.load(path.read_text("utf-8-sig"), yaml.BaseLoader)  # a class may be called yes
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct the path") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split())[:200]}); correct the file"
        ) from error
    if not isinstance(content, dict) or "names" not in content:
        raise InputError(f"{path}: has no list names: of the classes; add it, such as names: [cat, dog]")
    return content


def _places(content: dict[str, Any], split: str) -> Any:
    """Return the folder, list or folders of a split; None if ``data.yaml`` names none."""
    return next((content[key] for key in SPLITS[split] if content.get(key) not in (None, "", "null", "~")), None)


def _class_names(names: object, path: Path) -> dict[int, str]:
    """Return the class names by index, from a list, or from a mapping with or without gaps."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        found = {int(number): str(name) for number, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{path}: names: must list the classes, such as [cat, dog] or 0: cat; correct it") from None
    if not found:
        raise InputError(f"{path}: names: lists no class; add one")
    return dict(sorted(found.items()))


def _root(content: dict[str, object], file: Path) -> Path:
    """Return the folder that the paths in ``data.yaml`` start from: its ``path`` if that exists, or its own folder."""
    given = content.get("path")
    root = file.parent / str(given) if given else file.parent
    return root if root.is_dir() else file.parent


def _pictures(place: str, root: Path, file: Path) -> list[Path]:
    """Return the pictures of a folder or of a list of files."""
    found = _existing(place, root, file)
    if found is None:
        raise InputError(f"{file}: names {place!r}, and there is no {root / place}; correct its paths")
    if found.is_dir():
        return find_pictures(found, recursive=True).pictures
    pictures = [_listed(line, found.parent, root) for line in read_lines(found)]
    if not pictures:
        raise InputError(f"{found}: lists no picture; write one on each line")
    return pictures


def _existing(place: str, root: Path, file: Path) -> Path | None:
    """Return a path that ``data.yaml`` names; Roboflow's ``../train/images`` starts at ``data.yaml``, too."""
    names = [place, place.removeprefix("../")]
    return next((path for name in names for path in (root / name, file.parent / name) if path.exists()), None)


def _listed(line: str, *folders: Path) -> Path:
    """Return a picture of a list of files, whose relative paths start at the list or at the root of the data set."""
    return next((folder / line for folder in folders if (folder / line).is_file()), folders[0] / line)
