"""Conversion: every pair of formats as a round trip, other libraries' readers, and what a format can't hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from formats_of_tools import NAMES, TRAIN, VAL
from PIL import Image

from dino_detector.cli import main
from dino_detector.data.conversion.conversion import RECORD, convert
from dino_detector.errors import InputError

pytestmark = pytest.mark.fast
FORMATS = ("coco", "yolo", "voc", "labelme", "cvat")
HOLD_CROWDS = ("coco", "voc")
HOLD_UNUSED_CLASSES = ("coco", "yolo", "cvat")
TOLERANCE = 1e-5
"""pixels"""


class Row(NamedTuple):
    """A box: its class, left, top, width and height in pixels, and whether it is a crowd."""

    name: str
    box: tuple[float, float, float, float]
    crowd: bool = False


CLASSES = {
    2: "yes",
    3: "null",
    5: "a: b",
    8: "#x",
    13: "<cat & dog>",
    21: "it's \"quoted\"",
    34: "emoji 🐈",
    55: "comma, 0.5",
    89: "- dash",
    144: "größe",
    233: "no box",
}
USED = sorted({*CLASSES.values()} - {"no box"})
SETS: dict[str, dict[tuple[str, int, int], list[Row]]] = {
    "train": {
        ("a.jpg", 40, 30): [Row("yes", (1, 2, 10, 12)), Row("null", (0, 0, 40, 30)), Row("a: b", (3, 3, 7, 5), True)],
        ("a.png", 41, 31): [Row("#x", (10.25, 4.5, 7.125, 9.75)), Row("#x", (10.25, 4.5, 7.125, 9.75))],
        ("sub/a.jpg", 42, 32): [Row("<cat & dog>", (5, 6, 7, 8))],
        ("sub dir/grün 🐈.jpg", 43, 33): [Row("it's \"quoted\"", (0.333333, 1.666667, 11.1, 12.7))],
        ("comma, #1 & <x>.jpg", 44, 34): [Row("emoji 🐈", (40, 30, 4, 4))],
        ("it's \"q\".jpg", 45, 35): [Row("comma, 0.5", (2, 2, 3, 3), True)],
        ("images/deep.jpg", 46, 36): [Row("- dash", (1, 1, 1, 1))],
        ("photo 1.jpg", 47, 37): [Row("größe", (-3, -1, 20, 10)), Row("größe", (30, 30, 40, 40))],
        ("dots...jpg", 48, 38): [],
    },
    "val": {
        ("a.jpg", 60, 50): [Row("größe", (7, 7, 20, 20)), Row("yes", (59, 49, 1, 1))],
        ("empty.png", 61, 51): [],
    },
}
RENAMED = {"a.png", "images/deep.jpg", "photo 1.jpg", "a.jpg"}
"""names that some format can't hold, or that two pictures would share"""


def write_set(root: Path) -> Path:
    """Write the data set as COCO by hand; ids of images have gaps and no order."""
    (root / "annotations").mkdir(parents=True)
    ids = {name: number for number, name in CLASSES.items()}
    for split, pictures in SETS.items():
        content: dict[str, Any] = {"info": {"year": 2024}, "licenses": [{"id": 4, "name": "CC"}]}
        content["categories"] = [{"id": n, "name": name, "supercategory": "thing"} for n, name in CLASSES.items()]
        content["images"], content["annotations"] = [], []
        for number, ((name, width, height), rows) in enumerate(pictures.items()):
            place = root / split / name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (width, height), (number * 20, 90, 200)).save(place)
            image = 900 - 7 * number
            size = {"width": width, "height": height}
            content["images"].append({"id": image, "file_name": name, "license": 4} | size)
            for row in rows:
                entry = {"id": 50 + 3 * len(content["annotations"]), "image_id": image, "category_id": ids[row.name]}
                x, y, across, down = row.box
                outline = [[x, y, x + across, y, x + across, y + down]]
                entry |= {"bbox": list(row.box), "iscrowd": int(row.crowd), "area": across * down / 2}
                content["annotations"].append(entry | {"segmentation": outline})
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("hostile") / "source")


@pytest.fixture(scope="module")
def converted(source: Path) -> dict[str, Path]:
    """Return the data set in each format."""
    folders = {form: source.with_name(form) for form in FORMATS}
    for form, folder in folders.items():
        convert(source, to=form, output=folder, pictures="link")
    return folders


def coco_rows(folder: Path) -> dict[str, dict[tuple[int, int], tuple[str, list[Row]]]]:
    """Parse Roboflow's COCO layout with json alone: by split and size of the picture, its name and boxes."""
    found = {}
    for split, place in (("train", "train"), ("val", "valid")):
        content = json.loads((folder / place / "_annotations.coco.json").read_text())
        names = {one["id"]: one["name"] for one in content["categories"]}
        images = {one["id"]: one for one in content["images"]}
        rows: dict[int, list[Row]] = {number: [] for number in images}
        for one in content["annotations"]:
            row = Row(names[one["category_id"]], tuple(one["bbox"]), bool(one["iscrowd"]))
            rows[one["image_id"]].append(row)
        for number, one in images.items():
            with Image.open(folder / place / one["file_name"]) as picture:
                assert picture.size == (one["width"], one["height"])
        found[split] = {
            (one["width"], one["height"]): (one["file_name"], rows[number]) for number, one in images.items()
        }
    return found


def assert_same(rows: Sequence[Row], wanted: Sequence[Row], *, crowds: bool) -> None:
    rows, wanted = sorted(rows), sorted(wanted)
    assert [row.name for row in rows] == [row.name for row in wanted]
    assert [row.crowd for row in rows] == [row.crowd and crowds for row in wanted]
    for row, true in zip(rows, wanted, strict=True):
        assert row.box == pytest.approx(true.box, abs=TOLERANCE)


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_a_pair_of_formats_is_a_round_trip(first: str, second: str, converted: dict[str, Path], tmp_path: Path):
    convert(converted[first], to=second, output=tmp_path / "second", pictures="link")
    convert(tmp_path / "second", to="coco", output=tmp_path / "back", pictures="link")
    found = coco_rows(tmp_path / "back")
    crowds = first in HOLD_CROWDS and second in HOLD_CROWDS
    for split, pictures in SETS.items():
        assert found[split].keys() == {(width, height) for _, width, height in pictures}
        for (name, width, height), rows in pictures.items():
            file_name, there = found[split][width, height]
            assert_same(there, rows, crowds=crowds)
            assert file_name == name or name in RENAMED
            copy = tmp_path / "back" / {"train": "train", "val": "valid"}[split] / file_name
            assert copy.read_bytes() == (converted["coco"].parent / "source" / split / name).read_bytes()
    content = json.loads((tmp_path / "back" / "train" / "_annotations.coco.json").read_text())
    unused = first in HOLD_UNUSED_CLASSES and second in HOLD_UNUSED_CLASSES
    assert sorted(one["name"] for one in content["categories"]) == sorted(USED + (["no box"] if unused else []))
