"""Conversion: every pair of formats as a round trip, other libraries' readers, and what a format can't hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from formats_of_tools import NAMES, ONE_SPLIT, TRAIN, TWO_SPLITS, VAL, Labelled
from PIL import Image

from dino_detector.cli import main
from dino_detector.data.conversion.conversion import RECORD, convert, write_labelled
from dino_detector.data.conversion.labelled import Box, Picture
from dino_detector.data.conversion.labelled import Labelled as InMemory
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
    21: 'it\'s "quoted"',
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
        ("sub dir/grün 🐈.jpg", 43, 33): [Row('it\'s "quoted"', (0.333333, 1.666667, 11.1, 12.7))],
        ("comma, #1 & <x>.jpg", 44, 34): [Row("emoji 🐈", (40, 30, 4, 4))],
        ('it\'s "q".jpg', 45, 35): [Row("comma, 0.5", (2, 2, 3, 3), True)],
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
        for one in images.values():
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


def seen_by_supervision(form: str, folder: Path, split: str) -> dict[str, list[Row]]:
    """Return the boxes of a split by the name of the picture, as supervision reads them."""
    import supervision

    readers = supervision.DetectionDataset
    if form == "coco":
        place = folder / {"val": "valid"}.get(split, split)
        data = readers.from_coco(str(place), str(place / "_annotations.coco.json"))
    elif form == "yolo":
        name = split or "train"
        places = [str(folder / kind / name) for kind in ("images", "labels")]
        data = readers.from_yolo(*places, str(folder / "data.yaml"))
    elif form == "voc":
        data = readers.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    else:
        data = readers.from_labelme(str(folder / split), str(folder / split))
    found = {}
    for path, _, detections in data:
        rows = zip(detections.class_id.tolist(), detections.xyxy.tolist(), strict=True)
        found[Path(path).name] = [
            Row(data.classes[kind], (left, top, right - left, bottom - top))
            for kind, (left, top, right, bottom) in rows
        ]
    if form == "voc" and split:
        stems = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().splitlines()
        found = {name: rows for name, rows in found.items() if Path(name).stem in stems}
    return found


def seen_by_hotcoco(file: Path) -> dict[str, list[Row]]:
    """Return the boxes of a file of CVAT without the names of the classes, which hotcoco shortens at an &."""
    from hotcoco import COCO

    content = COCO.from_cvat(str(file)).dataset
    names = {one["id"]: one["file_name"] for one in content["images"]}
    found: dict[str, list[Row]] = {name: [] for name in names.values()}
    for one in content["annotations"]:
        found[names[one["image_id"]]].append(Row("", tuple(one["bbox"])))
    return found


def truth(pictures: Sequence[Labelled], *, named: bool = True) -> dict[str, list[Row]]:
    return {one.name: [Row(NAMES[kind] if named else "", tuple(box)) for kind, *box in one.boxes] for one in pictures}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tool", [*TWO_SPLITS, *ONE_SPLIT])
def test_other_libraries_see_the_boxes_that_a_tool_wrote(tool: str, form: str, tmp_path: Path):
    (TWO_SPLITS | ONE_SPLIT)[tool](tmp_path / "data")
    convert(tmp_path / "data", to=form, output=tmp_path / "out")
    splits = {"train": TRAIN, "val": VAL} if tool in TWO_SPLITS else {"": TRAIN}
    for split, pictures in splits.items():
        if form == "cvat":
            found = seen_by_hotcoco(tmp_path / "out" / f"{split or 'annotations'}.xml")
        else:
            found = seen_by_supervision(form, tmp_path / "out", split)
        wanted = truth(pictures, named=form != "cvat")
        assert found.keys() == wanted.keys()
        for name, rows in wanted.items():
            assert len(found[name]) == len(rows)
            for row, true in zip(sorted(found[name]), sorted(rows), strict=True):
                assert row.name == true.name
                assert row.box == pytest.approx(true.box, abs=1e-4)  # supervision keeps float32


def test_data_yaml_is_read_by_a_plain_yaml_reader_with_every_name(converted: dict[str, Path]):
    content = yaml.safe_load((converted["yolo"] / "data.yaml").read_text("utf-8"))
    assert content["names"] == list(CLASSES.values())
    assert content["nc"] == len(CLASSES)
    assert (content["train"], content["val"]) == ("images/train", "images/val")
    assert "path" not in content  # Ultralytics then starts at the folder of data.yaml


def test_whole_pixels_are_whole_in_voc_and_cvat(converted: dict[str, Path]):
    boxes = ElementTree.parse(converted["voc"] / "Annotations" / "a.xml").getroot().iterfind("object/bndbox")
    assert [[edge.text for edge in box] for box in boxes] == [
        ["2", "3", "11", "14"],
        ["1", "1", "40", "30"],
        ["4", "4", "10", "8"],
    ]
    images = ElementTree.parse(converted["cvat"] / "train.xml").getroot().findall("image")
    assert [int(image.get("id")) for image in images] == list(range(9))
    box = next(image for image in images if image.get("name") == "a.jpg").find("box")
    assert [box.get(edge) for edge in ("xtl", "ytl", "xbr", "ybr")] == ["1", "2", "11", "14"]


def test_a_picture_without_objects_has_an_empty_label_file(converted: dict[str, Path]):
    assert (converted["yolo"] / "labels" / "val" / "empty.txt").read_bytes() == b""
    assert json.loads((converted["labelme"] / "val" / "empty.json").read_text())["shapes"] == []


def test_coco_to_coco_changes_nothing(source: Path, converted: dict[str, Path]):
    for split, place in (("train", "train"), ("val", "valid")):
        before = json.loads((source / "annotations" / f"instances_{split}.json").read_text())
        assert json.loads((converted["coco"] / place / "_annotations.coco.json").read_text()) == before


def test_pictures_that_share_the_name_of_their_labels_stay_apart(converted: dict[str, Path], source: Path):
    train = converted["yolo"]
    assert {path.name for path in (train / "images" / "train").glob("a*")} == {"a.jpg", "a_2.png"}
    assert len((train / "labels" / "train" / "a.txt").read_text().splitlines()) == 3
    assert len((train / "labels" / "train" / "a_2.txt").read_text().splitlines()) == 2
    assert (train / "images" / "train" / "a_2.png").read_bytes() == (source / "train" / "a.png").read_bytes()
    assert (converted["voc"] / "JPEGImages" / "a_3.jpg").read_bytes() == (source / "val" / "a.jpg").read_bytes()


def lines_of(result: Any) -> str:
    return "\n".join(note.line() for note in result.notes)


def test_what_a_format_cannot_hold_is_named_with_its_number(source: Path, tmp_path: Path):
    yolo = lines_of(convert(source, to="yolo", output=tmp_path / "yolo", pictures="none"))
    for part in (
        '2 crowd regions (a.jpg, it\'s "q".jpg): YOLO has no crowds',
        "11 class ids (2 -> 0, 3 -> 1, 5 -> 2, ...)",
        "1 box (photo 1.jpg): a number is not between 0 and 1",
        "14 polygons and masks: ",
        "22 supercategories: ",
        "'license' of images",
        "ids of images and boxes: YOLO has none",
        "1 file name (a.png -> a_2.png): changed",
        "pictures: left out; put them into images/train, images/val",
    ):
        assert part in yolo
    voc = lines_of(convert(source, to="voc", output=tmp_path / "voc", pictures="none"))
    assert "crowd" not in voc
    assert "1 class without a box (no box): VOC has no list of classes" in voc
    assert (tmp_path / "voc" / RECORD).read_text("utf-8").count("photo 1.jpg -> photo_1.jpg") == 1
    assert not list((tmp_path / "voc").rglob("*.jpg"))


def write_coco(root: Path, names: Sequence[Any], **lists: Any) -> Path:
    """Write a COCO file of images of 20 x 10 pixels, with a file for each name that is a simple one."""
    root.mkdir()
    images = [{"id": n, "file_name": name, "width": 20, "height": 10} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, 1, 5, 5], "iscrowd": 0} for n in range(len(names))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]} | lists
    (root / "all.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("form", FORMATS)
def test_no_name_leads_out_of_the_folder(form: str, tmp_path: Path):
    names = ["../up.jpg", "/abs/olute.jpg", "C:\\d\\drive.jpg", "b\\c.jpg", "..", "line\nbreak.jpg", "https://x/y.jpg"]
    names += ["./x/../z.jpg", " blank .jpg", ".hidden.jpg", "end."]
    data = write_coco(tmp_path / "data", names)
    Image.new("RGB", (20, 10)).save(tmp_path / "up.jpg")
    Image.new("RGB", (20, 10)).save(data / "line\nbreak.jpg")
    result = convert(data, to=form, output=tmp_path / "out" / "set")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"set"}
    assert result.boxes == {"": len(names)}
    text = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.xml"))
    assert b"\x00" not in text
    again = convert(tmp_path / "out" / "set", to="coco", output=tmp_path / "again")
    boxes = sum(again.boxes.values())
    assert boxes == (2 if form == "yolo" else len(names))  # YOLO lists the pictures that are there
    assert len(list((tmp_path / "again").rglob("up.jpg"))) == 1


@pytest.mark.parametrize("form", ["voc", "cvat"])
def test_characters_that_xml_lacks_are_replaced_and_named(form: str, tmp_path: Path):
    classes = [{"id": 1, "name": "a\x00\x1bb"}, {"id": 2, "name": " padded "}, {"id": 3, "name": "two\r\nlines"}]
    data = write_coco(tmp_path / "data", ["a.jpg", "b.jpg"], categories=classes)
    result = convert(data, to=form, output=tmp_path / "out")
    assert result.classes == ["a??b", "padded", "two\r\nlines"]
    assert "2 class names ('a\\x00\\x1bb' -> 'a??b', ' padded ' -> 'padded')" in lines_of(result)
    for path in (tmp_path / "out").rglob("*.xml"):
        ElementTree.parse(path)


def test_classes_of_equal_names_stay_two_in_yolo_and_are_joined_in_voc(tmp_path: Path):
    classes = [{"id": 7, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]
    data = write_coco(tmp_path / "data", ["a.jpg"], categories=classes)
    assert convert(data, to="yolo", output=tmp_path / "yolo").classes == ["dog", "cat", "cat"]
    result = convert(data, to="voc", output=tmp_path / "voc")
    assert sorted(result.classes) == ["cat", "dog"]
    assert "1 class (cat): Pascal VOC tells classes by their names; joined" in lines_of(result)


def test_splits_whose_ids_differ_are_joined_by_name(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for split, ids in (("train", {1: "cat", 2: "dog"}), ("val", {1: "dog", 5: "cow"})):
        image = {"id": 1, "file_name": f"{split}.jpg", "width": 20, "height": 10}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}
        classes = [{"id": number, "name": name} for number, name in ids.items()]
        content = {"images": [image], "annotations": [box], "categories": classes}
        (data / f"instances_{split}.json").write_text(json.dumps(content))
    convert(data, to="yolo", output=tmp_path / "out")
    names = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["names"]
    labels = {split: (tmp_path / "out" / "labels" / split / f"{split}.txt").read_text() for split in ("train", "val")}
    assert {split: names[int(text.split()[0])] for split, text in labels.items()} == {"train": "cat", "val": "dog"}
    assert sorted(names) == ["cat", "cow", "dog"]


@pytest.mark.parametrize("form", FORMATS)
def test_entries_without_a_usable_box_are_counted(form: str, tmp_path: Path):
    good = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}
    bad = [
        good | {"id": 2, "bbox": [1, float("nan"), 5, 5]},
        good | {"id": 3, "bbox": "x"},
        good | {"id": 4, "image_id": 9},
    ]
    flat = good | {"id": 5, "bbox": [3, 3, 0, 4]}
    data = write_coco(tmp_path / "data", ["a.jpg"], annotations=[good, *bad, flat])
    Image.new("RGB", (20, 10)).save(data / "a.jpg")
    result = convert(data, to=form, output=tmp_path / "out")
    assert result.boxes == {"": 2}
    if form == "coco":
        assert "NaN" in (tmp_path / "out" / "_annotations.coco.json").read_text()
    else:
        assert "2 annotations (2, 3): has no box of four finite numbers; left out" in lines_of(result)
        assert "1 annotation (4): no image of the file has the id; left out" in lines_of(result)


@pytest.mark.parametrize("turn", range(1, 9))
def test_boxes_of_a_stored_picture_turn_with_it(turn: int, tmp_path: Path):
    """Pillow turns a picture with one white box; the box that YOLO gets is where the white pixels are."""
    from PIL import ImageOps

    pixels = np.zeros((30, 50), np.uint8)
    pixels[4:10, 20:45] = 255
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = turn
    (tmp_path / "data").mkdir()
    picture.save(tmp_path / "data" / "a.png", exif=exif)
    image = {"id": 1, "file_name": "a.png", "width": 50, "height": 30}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 4, 25, 6], "iscrowd": 0}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "data" / "all.json").write_text(json.dumps(content))
    convert(tmp_path / "data", to="yolo", output=tmp_path / "out")
    _, x, y, width, height = map(float, (tmp_path / "out" / "labels" / "train" / "a.txt").read_text().split())
    with Image.open(tmp_path / "out" / "images" / "train" / "a.png") as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored)) if turn > 4 else pixels
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    down, across = shown.shape
    edges = ((x - width / 2) * across, (y - height / 2) * down, (x + width / 2) * across, (y + height / 2) * down)
    assert edges == pytest.approx((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), abs=TOLERANCE)


def fingerprint(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_the_data_is_not_changed(source: Path, tmp_path: Path):
    before = fingerprint(source)
    for form in FORMATS:
        convert(source, to=form, output=tmp_path / form)
    assert fingerprint(source) == before


def test_a_link_is_the_same_file_and_a_copy_is_not(source: Path, tmp_path: Path):
    for how, same in (("copy", False), ("link", True)):
        convert(source, to="yolo", output=tmp_path / how, pictures=how)
        there = tmp_path / how / "images" / "val" / "empty.png"
        assert there.samefile(source / "val" / "empty.png") is same


@pytest.mark.parametrize("output", ["data", "data/out", "."])
def test_an_output_that_overlaps_the_data_is_refused(output: str, tmp_path: Path):
    data = write_coco(tmp_path / "data", ["a.jpg"])
    before = fingerprint(tmp_path)
    with pytest.raises(InputError, match="give a folder outside of"):
        convert(data, to="yolo", output=tmp_path / output)
    assert fingerprint(tmp_path) == before


def test_an_earlier_conversion_moves_aside_and_other_files_are_refused(tmp_path: Path):
    data = write_coco(tmp_path / "data", ["a.jpg"])
    out = tmp_path / "out"
    convert(data, to="yolo", output=out)
    (out / "mine.txt").write_text("mine")
    convert(data, to="voc", output=out)
    (aside,) = tmp_path.glob("out.earlier_*")
    assert (aside / "mine.txt").read_text() == "mine"
    assert (aside / "data.yaml").is_file()
    assert not (out / "data.yaml").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that no conversion wrote"):
        convert(data, to="voc", output=tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]


def test_a_conversion_that_fails_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(InputError, match="the disk is full"):
        convert(source, to="yolo", output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_a_killed_conversion_left_is_removed(tmp_path: Path):
    data = write_coco(tmp_path / "data", ["a.jpg"])
    left = tmp_path / ".out.unfinished-999999999"
    left.mkdir()
    (left / "half.txt").write_text("half")
    convert(data, to="yolo", output=tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


@pytest.mark.parametrize("words", [["{data}", "--to", "yolo", "{out}"], ["{data}", "{out}", "--to", "yolo"]])
def test_the_command_prints_what_was_written_and_lost(
    words: list[str], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert main(["convert", *(word.format(data=source, out=out) for word in words)]) == 0
    text = capsys.readouterr().out
    assert "YOLO with 11 classes, from COCO\n  train: 9 images, 12 boxes\n  val: 2 images, 2 boxes\n" in text
    assert "  - 2 crowd regions" in text
    assert f"{out / RECORD} lists every name and id." in text


def test_splits_that_a_format_has_no_place_for_are_refused(tmp_path: Path):
    data = write_coco(tmp_path / "data", ["a.jpg"])
    shutil.copy(data / "all.json", data / "night.json")
    with pytest.raises(InputError, match="YOLO has train, val and test only; convert one file at a time"):
        convert(data, to="yolo", output=tmp_path / "out")
    assert convert(data, to="coco", output=tmp_path / "coco").images == {"all": 1, "night": 1}


def test_an_unreadable_picture_of_yolo_is_named(tmp_path: Path):
    TWO_SPLITS["yolo"](tmp_path / "data")
    (tmp_path / "data" / "train" / "images" / "b.jpg").write_bytes(b"no picture")
    result = convert(tmp_path / "data", to="voc", output=tmp_path / "out")
    assert "1 unreadable picture (b.jpg): its boxes are given as if it had 1,000 x 1,000 pixels" in lines_of(result)
    assert (tmp_path / "out" / "JPEGImages" / "b.jpg").read_bytes() == b"no picture"


def test_yolo_splits_whose_lists_of_classes_differ_become_coco_with_an_id_for_each_class(tmp_path: Path):
    data = tmp_path / "data"
    for split, names in (("train", "cat\ndog\n"), ("valid", "dog\ncat\n")):
        (data / split).mkdir(parents=True)
        (data / split / "_darknet.labels").write_text(names)
        Image.new("RGB", (20, 10)).save(data / split / f"{split}.jpg")
        (data / split / f"{split}.txt").write_text("0 0.5 0.5 0.2 0.2\n")  # a cat in train, a dog in valid
    result = convert(data, to="coco", output=tmp_path / "out")
    for split, name in (("train", "cat"), ("valid", "dog")):
        content = json.loads((tmp_path / "out" / split / "_annotations.coco.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        assert sorted(names.values()) == ["cat", "dog"]
        assert names[content["annotations"][0]["category_id"]] == name
    assert "two classes have one id, or a class has two; all classes are numbered anew" in lines_of(result)


@pytest.mark.parametrize("names", [["train.json", "val.json", "valid.json"], ["x_n.json", "m/n.json", "x/n.json"]])
def test_splits_that_would_be_written_to_one_folder_are_refused(names: list[str], tmp_path: Path):
    content = (write_coco(tmp_path / "one", ["a.jpg"]) / "all.json").read_text()
    for name in names:
        place = tmp_path / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    with pytest.raises(InputError, match="would all be written as"):
        convert(tmp_path / "data", to="coco", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_reader_leaves_out_is_in_the_notes(tmp_path: Path):
    shapes = '<box label="b" xtl="2" ytl="3" xbr="6" ybr="5"/><polyline label="b" points="1,2;3,4"/>'
    (tmp_path / "data").mkdir()
    image = f'<image id="0" name="a.jpg" width="12" height="8">{shapes}</image>'
    (tmp_path / "data" / "annotations.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    result = convert(tmp_path / "data", to="coco", output=tmp_path / "out")
    assert "1 shape (1 <polyline>) has no box and is left out" in lines_of(result)
    assert "<polyline>" in (tmp_path / "out" / RECORD).read_text("utf-8")
    assert "Nothing was lost" not in result.text()


@pytest.mark.parametrize("part", ["data.yaml", "data.yaml:train"])
def test_an_output_beside_a_file_of_the_data_is_refused(part: str, tmp_path: Path):
    TWO_SPLITS["yolo"](tmp_path / "data")
    with pytest.raises(InputError, match="lies in the data set"):
        convert(tmp_path / "data" / part, to="coco", output=tmp_path / "data" / "new")
    assert not (tmp_path / "data" / "new").exists()


def test_a_folder_with_a_name_like_an_unfinished_one_stays(tmp_path: Path):
    data = write_coco(tmp_path / "data", ["a.jpg"])
    (tmp_path / ".out[1].unfinished-12abc").mkdir()
    (tmp_path / ".out[1].unfinished-999999999").mkdir()
    convert(data, to="yolo", output=tmp_path / "out[1]")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out[1]", ".out[1].unfinished-12abc"}
    assert "unfinished" not in (tmp_path / "out[1]" / RECORD).read_text()


def test_boxes_in_memory_are_written_with_their_origin(tmp_path: Path):
    data = InMemory({"": [Picture("a.jpg", None, (20, 10), [Box(0, 1, 2, 3, 4)])]}, ["cat"], [1])
    result = write_labelled(data, to="coco", output=tmp_path / "out", source="model.pt in photos")
    assert result.boxes == {"": 1}
    content = json.loads((tmp_path / "out" / "_annotations.coco.json").read_text())
    assert content["annotations"][0]["bbox"] == [1, 2, 3, 4]
    assert "\nfrom model.pt in photos\n" in (tmp_path / "out" / RECORD).read_text()
