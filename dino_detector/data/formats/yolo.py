"""Reads YOLO data sets as Ultralytics does: https://docs.ultralytics.com/datasets/detect/

A split is named ``data.yaml:val``: the file that lists the classes and the pictures, and the name of the split. Darknet
and CVAT's YOLO 1.1 have ``obj.data`` instead. A folder with a list of classes is one split: Label Studio writes
``classes.txt``, ``images/`` and ``labels/``, and Roboflow writes ``train/_darknet.labels`` beside pictures and labels.
"""

from __future__ import annotations

import math
import os
import re
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dino_detector.data.formats.darknet import is_obj_data, read_obj_data
from dino_detector.data.formats.rows import Reading, Rows, files_below
from dino_detector.data.formats.splits import AnnotationFile, by_role, role_of
from dino_detector.data.pictures.finding import find_pictures, is_picture
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed
from dino_detector.storage.files import read_lines

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""keys of ``data.yaml`` by split"""
CLASSES = ("classes.txt", "labels.txt", "obj.names", "_darknet.labels")
"""files with a class name on each line"""
YOLO_SPLIT = re.compile(r"^(.+\.(?:ya?ml|data)):(train|val|test)$")
"""path of a split: the ``data.yaml`` or ``obj.data``, and the name of the split"""
LARGEST = 2.0
"""largest magnitude of a coordinate, as a fraction of the image; a larger one is in pixels"""


class YoloSplit(NamedTuple):
    """The folders and the listed pictures of a split, the folder above all of them, and the class names by index.

    With ``keypoints``, a box is followed by keypoints.
    """

    places: list[Path]
    folder: Path
    classes: dict[int, str]
    keypoints: bool = False

    def pictures(self) -> list[Path]:
        """Return the pictures; raise `InputError` if a folder has none."""
        parts = [find_pictures(place, recursive=True).pictures if place.is_dir() else [place] for place in self.places]
        return list(dict.fromkeys(picture for part in parts for picture in part))


def find_yolo(folder: Path) -> list[AnnotationFile]:
    """Return the splits of a folder, or the folder itself as one split.

    Splits are named by ``data.yaml``, by ``obj.data``, or by subfolders that each have a list of classes.
    """
    files = [path for form in ("*.yaml", "*.yml") for path in sorted(folder.glob(form)) if _is_data_yaml(path)]
    if files:
        chosen = next((path for path in files if path.name == "data.yaml"), files[0])
        if chosen.name != "data.yaml" and len(files) > 1:
            names = listed([path.name for path in files])
            raise InputError(f"{folder}: {names} each list classes and pictures; give one of these files")
        return splits_of_yaml(chosen)
    if lists := [path for path in sorted(folder.glob("*.data")) if is_obj_data(path)]:
        if len(lists) > 1:
            names = listed([path.name for path in lists])
            raise InputError(f"{folder}: {names} each list classes and pictures; give one of these files")
        return splits_of_yaml(lists[0])
    if not _has_labels(folder):
        roles = by_role([path for path in sorted(folder.iterdir()) if path.is_dir() and _has_labels(path)], folder)
        return [AnnotationFile(role, path, _images(path), "YOLO") for role, path in roles.items() if "train" in roles]
    images = _images(folder)
    if any(role_of(path, images) == "val" for path in images.iterdir() if path.is_dir()):
        raise InputError(f"{images}: has folders of splits; write a data.yaml with train:, val: and names: to {folder}")
    return [AnnotationFile(folder.resolve().name, folder, images, "YOLO")]


def _has_labels(folder: Path) -> bool:
    """Return whether a folder has a list of classes, and a picture with a label; the list may be of another tool."""
    pictures = (path for path in files_below(_images(folder), "*") if is_picture(path))
    return _classes_file(folder) is not None and any(label_path(picture).is_file() for picture in pictures)


def _images(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def splits_of_yaml(path: Path) -> list[AnnotationFile]:
    """Return the split ``data.yaml:SPLIT`` of each place that a ``data.yaml`` or ``obj.data`` names, train first.

    Exports without test pictures name their folder all the same: a missing test split is left out.
    """
    content = _read_yaml(path)
    named = {name: _places(content, name) for name in SPLITS}
    if isinstance(named["test"], str) and not _existing(named["test"], content, path):
        del named["test"]
    if not any(named.values()):
        raise InputError(f"{path}: names no pictures; add the line train: images/train")
    return [split_of_yaml(Path(f"{path}:{name}"), name) for name, place in named.items() if place]


def split_of_yaml(path: Path, name: str) -> AnnotationFile:
    """Return the split at a path ``data.yaml:NAME``; raise `InputError` if its pictures are missing."""
    try:
        folder = _yolo_split(path).folder
    except InputError:
        if name != "test":  # the pictures of a test split may be unused
            raise
        folder = None
    return AnnotationFile(name, path, folder, "YOLO")


def _yolo_split(path: Path) -> YoloSplit:
    """Find the folders of a split ``data.yaml:NAME``, or of a folder with ``classes.txt``.

    Raises:
        InputError: ``data.yaml`` or a path in it is wrong.
    """
    named = YOLO_SPLIT.match(str(path))
    if named is None:
        return YoloSplit([_images(path)], _images(path), dict(enumerate(read_lines(_classes_file(path)))))
    file, split = Path(named[1]), named[2]
    content = _read_yaml(file)
    classes = _class_names(content, file)
    found = _places(content, split)
    if found is None:
        raise InputError(f"{file}: names no pictures for {split}; add the line {split}: images/{split}")
    named_places = found if isinstance(found, list) else [found]
    places = [place for name in named_places for place in _pictures(str(name), content, file, split)]
    if any(place.is_absolute() for place in places):
        places = [place.absolute() for place in places]
    folder = Path(os.path.commonpath([place if place.is_dir() else place.parent for place in places]))
    return YoloSplit(places, folder, classes, "kpt_shape" in content)


def _classes_file(folder: Path) -> Path | None:
    """Return the list of classes of a folder with YOLO labels; None if it has none."""
    return next((folder / name for name in CLASSES if (folder / name).is_file()), None)


def read_yolo(source: AnnotationFile) -> Reading:
    """Read the labels of a split: a line is a class and a box, centre and size as fractions, or a class and a polygon.

    An empty or missing label file means that the picture has no objects.

    Raises:
        InputError: a line is wrong; the message names its file and number, and counts the other wrong lines.
    """
    split = _yolo_split(source.path)
    pictures = split.pictures()
    rows, wrong = Rows(split.classes, unit="line"), []
    for picture, (width, height) in zip(pictures, picture_sizes(pictures).tolist(), strict=True):
        scale = rows.measured(picture.relative_to(split.folder).as_posix(), width, height)
        labels = label_path(picture)
        try:
            lines = labels.read_text("utf-8-sig").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{labels}: cannot be read as text ({error}); correct the file") from error
        for number, line in enumerate(lines, start=1):
            if line.strip() and (reason := _add(rows, line.split(), scale, split.keypoints, (labels, number))):
                wrong.append(f"{labels}, line {number}: {reason}")
    if wrong:
        others = f"; {counted(len(wrong) - 1, 'more line is', 'more lines are')} wrong" if len(wrong) > 1 else ""
        raise InputError(f"{wrong[0]}; correct the line{others}")
    return rows.reading(_lost_labels(pictures))


def _lost_labels(pictures: list[Path]) -> str | None:
    expected = {label_path(picture) for picture in pictures}
    folders = {path.parent for path in expected}
    there = {path for folder in folders for path in folder.glob("*.txt") if path.name not in CLASSES}
    if not there & expected:
        return f"none of {counted(len(pictures), 'picture')} has a label file, such as {label_path(pictures[0])}"
    if there <= expected:
        return None
    beside = chain.from_iterable(
        folder.iterdir() for folder in {picture.parent for picture in pictures} if folder.is_dir()
    )
    others = {label_path(path) for path in beside if is_picture(path)}  # another split may list them
    lost = sorted(path.name for path in there - expected - others)
    return f"{counted(len(lost), 'label file')} without a picture: {listed(lost)}" if lost else None


def label_path(picture: Path) -> Path:
    """Return the label file: ``labels`` replaces the last folder named ``images``, or the label is beside."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    there, beside = Path(*parts).with_suffix(".txt"), picture.with_suffix(".txt")
    return beside if beside.is_file() and not there.is_file() else there


def _add(
    rows: Rows, words: list[str], scale: tuple[float, float], keypoints: bool, place: tuple[Path, int]
) -> str | None:
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
        hint = ""
        if len(numbers) == 5:
            hint = ", and a sixth number is the score of a detection (save_conf): remove it"
        elif len(numbers) > 6 and (len(numbers) - 4) % 3 == 0:
            points = (len(numbers) - 4) // 3
            hint = f", and for {points} keypoints behind a box data.yaml needs kpt_shape: [{points}, 3]"
        return f"has {len(words)} numbers; a box has 5, a polygon an odd number from 7{hint}"
    if abs(farthest := max(numbers, key=abs)) > LARGEST:
        return f"has the coordinate {farthest:g}; write fractions of the width and height of the image, from 0 to 1"
    pairs = [(x * scale[0], y * scale[1]) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    if len(numbers) > 4:
        rows.polygon(int(kind), pairs, place)
    else:
        (x, y), (width, height) = pairs
        rows.box(int(kind), (x - width / 2, y - height / 2, x + width / 2, y + height / 2), place)
    return None


def _is_data_yaml(path: Path) -> bool:
    """Return whether a YAML file lists classes and pictures; True for a damaged ``data.yaml``, whose reader says so."""
    try:
        content = _read_yaml(path)
    except InputError:
        return path.name == "data.yaml"
    return any(_places(content, split) is not None for split in SPLITS)


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a ``data.yaml``, with texts as values; raise `InputError` if it lists no classes."""
    if path.suffix == ".data":
        return read_obj_data(path)
    try:
        content = yaml.load(path.read_text("utf-8-sig"), yaml.BaseLoader)  # a class may be called yes
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct the path") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split())[:200]}); correct the file"
        ) from error
    if not isinstance(content, dict) or not ("names" in content or "nc" in content):
        raise InputError(f"{path}: has no list names: of the classes; add it, such as names: [cat, dog]")
    return content


def _places(content: dict[str, Any], split: str) -> Any:
    """Return the folder, list or folders of a split; None if ``data.yaml`` names none."""
    return next((content[key] for key in SPLITS[split] if content.get(key) not in (None, "", "null", "~", [])), None)


def _class_names(content: dict[str, Any], path: Path) -> dict[int, str]:
    """Return the class names by index, from a list, or from a mapping with or without gaps; ``class_0`` without names.

    Raises:
        InputError: ``names`` lists no class, or another number of classes than ``nc``.
    """
    names, number = content.get("names"), content.get("nc")
    if number is not None and not (isinstance(number, str) and number.strip().isdecimal()):
        raise InputError(f"{path}: nc: must be the number of classes, not {number!r}; correct or remove the line")
    if names is None:
        names = [f"class_{index}" for index in range(int(number))]  # as Ultralytics names them
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        found = {int(index): str(name) for index, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{path}: names: must list the classes, such as [cat, dog] or 0: cat; correct it") from None
    if not found:
        raise InputError(f"{path}: names: lists no class; add one")
    if number is not None and int(number) != len(found):
        raise InputError(f"{path}: nc: is {number}, but names: lists {len(found)} classes; correct one of them")
    return dict(sorted(found.items()))


def _roots(content: dict[str, Any], file: Path) -> list[Path]:
    """Return the folders that the paths in ``data.yaml`` start from: its ``path`` if that exists, and its own folder.

    A relative ``path`` starts at ``data.yaml``, or at the working directory, as Ultralytics takes it.
    """
    given = str(content.get("path") or "")
    named = [file.parent / given, Path(given)] if given else []
    return [*(path for path in named if path.is_dir()), file.parent]


def _pictures(place: str, content: dict[str, Any], file: Path, split: str) -> list[Path]:
    """Return a folder, or the pictures of a list of files."""
    found = _existing(place, content, file)
    roots = _roots(content, file)
    if found is None:
        remedy = "correct its paths"
        if split == "val":
            remedy += (
                ", or remove the line val: and give --val_fraction 0.2 to validate on a part of the training images"
            )
        raise InputError(f"{file}: names {place!r}, and there is no {roots[0] / place}; {remedy}")
    if found.is_dir():
        return [found]
    pictures = [_listed(line, [found.parent, *roots]) for line in read_lines(found)]
    if not pictures:
        raise InputError(f"{found}: lists no picture; write one on each line")
    return pictures


def _existing(place: str, content: dict[str, Any], file: Path) -> Path | None:
    """Return a path that ``data.yaml`` names; Roboflow's ``../train/images`` starts at ``data.yaml``, too."""
    names = [place, place.removeprefix("../")]
    roots = _roots(content, file)
    found = next((root / name for name in names for root in roots if (root / name).exists()), None)
    return found or _moved(place, roots)


def _listed(line: str, folders: list[Path]) -> Path:
    """Return a picture of a list of files, whose relative paths start at the list or at the root of the data set."""
    found = next((folder / line for folder in folders if (folder / line).is_file()), None)
    return found or _moved(line, folders) or folders[0] / line


def _moved(name: str, folders: list[Path]) -> Path | None:
    """Return the path that the longest end of a path of another machine names below one of the folders.

    A relative path may only name a file, as in CVAT's lists, which begin with ``data/``: there is no such folder.
    """
    parts = name.replace("\\", "/").split("/")
    exists = Path.exists if parts[0] == "" or parts[0].endswith(":") else Path.is_file
    ends = ["/".join(parts[start:]) for start in range(1, len(parts)) if parts[start]]
    return next((folder / end for end in ends for folder in folders if exists(folder / end)), None)
