"""Reads the ``obj.data`` of Darknet and CVAT's YOLO 1.1: https://docs.cvat.ai/docs/manual/advanced/formats/format-yolo/

A line is ``key = value``. ``train`` and ``valid`` name lists of pictures, and ``names`` names a file of class names.
"""

from __future__ import annotations

from pathlib import Path

from dino_detector.errors import InputError
from dino_detector.storage.files import read_lines


def is_obj_data(path: Path) -> bool:
    """Return whether a file is named like an ``obj.data``, and names a list of pictures and a file of classes."""
    try:
        return path.suffix == ".data" and {"train", "names"} <= _pairs(path).keys()
    except InputError:
        return False


def read_obj_data(path: Path) -> dict[str, str | list[str]]:
    """Return the keys of an ``obj.data`` with the meaning of ``data.yaml``: ``names`` lists the classes.

    Darknet starts the paths at its working directory. The class names are therefore also found beside the file.

    Raises:
        InputError: the file can't be read, or its file of class names is missing.
    """
    pairs = _pairs(path)
    named = pairs.get("names", "obj.names")
    places = (path.parent / named, path.parent / named.replace("\\", "/").rsplit("/", 1)[-1])
    names = next((place for place in places if place.is_file()), None)
    if names is None:
        raise InputError(f"{path}: names the file of classes {named!r}, and there is no {places[1]}; correct names =")
    return {key: value for key, value in pairs.items() if key not in ("classes", "names")} | {
        "names": read_lines(names)
    }


def _pairs(path: Path) -> dict[str, str]:
    parts = (line.partition("=") for line in read_lines(path) if not line.startswith("#"))
    return {key.strip(): value.strip() for key, equals, value in parts if equals}
