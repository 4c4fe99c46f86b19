"""Each kind of mistake, in a clean data set that has only this mistake; a clean data set has no findings."""

from __future__ import annotations

import copy
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats_of_tools import write_voc
from small_set import BOXES, IMAGES, Content, Data, again, each, found, moved, without

from dino_detector.commands.data import main
from dino_detector.config import ImageSize
from dino_detector.data.coco.findings import KINDS, ranked
from dino_detector.data.layouts import find_sources
from dino_detector.data_check.check import load
from dino_detector.data_check.patches import PatchGrid


def test_the_findings_never_replace_an_annotation_file(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.write()
    file = data.folder / "annotations" / "instances_train.json"
    before = file.read_bytes()
    for given in (data.folder, file):
        assert main([str(given), "--output", str(file)]) == 2
        assert str(file) in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_clean_data_set_has_no_finding(data: Data) -> None:
    assert found(data.check()) == {}
    assert found(data.check(skip_images=True)) == {}


def dummy(content: Content) -> None:
    content["categories"].append({"id": 0, "name": "thing", "supercategory": "none"})


CASES: dict[str, tuple[Callable[[Content], Any], int]] = {
    "entry_no_object": (lambda c: c["annotations"].extend([17, "x"]), 2),
    "image_id": (lambda c: [each(c["images"], 1, id="1"), each(c["images"][1:], 1, id=2.5)], 2),
    "annotation_id": (lambda c: each(c["annotations"], 3, id="seventeen"), 3),
    "category_reference": (lambda c: each(c["annotations"], 1, category_id="1"), 1),
    "image_reference": (lambda c: each(c["annotations"], 2, image_id="1"), 2),
    "image_id_twice": (lambda c: again(c, "images", 0, file_name="train_street_1.png"), 1),
    "annotation_id_twice": (lambda c: c["annotations"][5].update(id=1), 1),
    "category_id_twice": (lambda c: again(c, "categories", 0, name="bus"), 1),
    "image_unknown": (lambda c: each(c["annotations"], 2, image_id=999), 2),
    "category_unknown": (lambda c: each(c["annotations"], 3, category_id=9), 3),
    "file_name_missing": (lambda c: without(c["images"], 1, "file_name"), 1),
    "image_size": (lambda c: each(c["images"], 2, width=0, file_name="gone.png"), 2),
    "image_size_read": (lambda c: each(c["images"], 2, width=0), 2),
    "crowd_value": (lambda c: each(c["annotations"], 1, iscrowd="no"), 1),
    "crowd_missing": (lambda c: without(c["annotations"], 4, "iscrowd"), 4),
    "area_missing": (lambda c: without(c["annotations"], 4, "area"), 4),
    "area_value": (lambda c: [each(c["annotations"], 1, area="big"), each(c["annotations"][1:], 1, area=-3)], 2),
    "area_wrong": (lambda c: each(c["annotations"], 30, area=99_999), 30),
    "annotation_id_missing": (lambda c: without(c["annotations"], 2, "id"), 2),
    "boxes_corners": (lambda c: moved(c["annotations"], lambda x, y, w, h: [x, y, x + w, y + h]), 48),
    "boxes_fractions": (
        lambda c: moved(c["annotations"], lambda x, y, w, h: [x / 120, y / 90, w / 120, h / 90]),
        48,
    ),
    "box_missing": (lambda c: without(c["annotations"], 2, "bbox"), 2),
    "box_no_numbers": (
        lambda c: [each(c["annotations"], 1, bbox=["1", 2, 3, 4]), each(c["annotations"][1:], 1, bbox=[1])],
        2,
    ),
    "box_negative": (lambda c: each(c["annotations"], 1, bbox=[50, 50, -10, 10]), 1),
    "box_no_size": (lambda c: each(c["annotations"], 2, bbox=[50, 50, 0, 10]), 2),
    "box_outside": (lambda c: each(c["annotations"], 1, bbox=[500, 50, 10, 10]), 1),
    "box_beyond": (lambda c: each(c["annotations"], 1, bbox=[100, 50, 40, 30], area=1200), 1),
    "box_twice": (lambda c: again(c, "annotations", 0, id=900), 1),
    "box_tiny": (lambda c: each(c["annotations"], 2, bbox=[50, 50, 1, 10], area=10), 2),
    "box_giant": (lambda c: each(c["annotations"], 1, bbox=[0, 0, 120, 90], area=10_800), 1),
    "boxes_centres": (lambda c: moved(c["annotations"], lambda x, y, w, h: [x + w / 2, y + h / 2, w, h]), 48),
    "image_sides_swapped": (lambda c: each(c["images"], 24, width=90, height=120), 19),
    "file_name_twice": (lambda c: each(c["images"][1:], 2, file_name="train_street_0.png"), 2),
    "file_name_path": (lambda c: each(c["images"], 1, file_name="../train/train_street_0.png"), 1),
    "file_name_near": (lambda c: each(c["images"], 1, file_name="D:\\set\\train_street_0.png"), 1),
    "file_name_url": (lambda c: each(c["images"], 1, file_name="s3://bucket/train_street_0.png"), 1),
    "box_from_mask": (lambda c: each(c["annotations"], 1, bbox=None, segmentation=[[50, 50, 70, 50, 70, 60]]), 1),
    "class_dummy": (lambda c: [each(c["categories"], 2, supercategory="thing"), dummy(c)], 1),
    "class_names_alike": (lambda c: each(c["categories"], 1, name="Trees"), 1),
    "class_rare": (lambda c: c.update(annotations=[a for a in c["annotations"] if a["id"] % 2 or a["id"] < 9]), 1),
    "no_boxes": (lambda c: each(c["annotations"], 48, iscrowd=1), 24),
    "list_missing": (lambda c: c.pop("categories"), 1),
    "class_no_name": (lambda c: without(c["categories"], 1, "name"), 1),
    "class_name_twice": (lambda c: c["categories"].append({"id": 3, "name": "car"}), 1),
    "class_unused": (lambda c: c["categories"].append({"id": 3, "name": "bus"}), 1),
    "images_without_boxes": (lambda c: c.update(annotations=c["annotations"][12:]), 6),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_mistake_in_the_file_is_found_and_counted(kind: str, data: Data) -> None:
    spoil, count = CASES[kind]
    spoil(data.train)
    finding = found(data.check(skip_images=True)).get((kind, "train"))
    assert finding is not None
    assert finding.count == count
    assert len(finding.ids) in (0, count)


def test_near_duplicates_and_conflicting_labels_are_told_apart(data: Data) -> None:
    box = data.train["annotations"][0]["bbox"]
    again(data.train, "annotations", 0, id=900, bbox=[box[0], box[1], box[2] + 1, box[3]])
    again(data.train, "annotations", 3, id=901, category_id=1)
    findings = found(data.check(skip_images=True))
    assert findings["box_nearly_twice", "train"].count == 1
    assert findings["labels_conflict", "train"].count >= 1


def test_categories_that_are_off_by_one_are_recognised(data: Data) -> None:
    for entry in data.train["annotations"]:
        entry["category_id"] -= 1
    assert ("category_off_by_one", "train") in found(data.check(skip_images=True))


@pytest.mark.parametrize("shift", [1, -1])
def test_ids_with_gaps_that_are_off_by_one_together_are_recognised(shift: int, data: Data) -> None:
    for content in (data.train, data.val):
        content["categories"] = [{"id": number, "name": f"class {number}"} for number in (11, 13, 17, 18)]
        for position, entry in enumerate(content["annotations"]):
            entry["category_id"] = (11, 13, 17)[position % 3]
    for entry in data.train["annotations"]:
        entry["category_id"] -= shift
    checked = data.check(skip_images=True)
    findings = found(checked)
    assert findings["category_off_by_one", "train"].count == 48
    assert findings["category_off_by_one", "train"].fix.startswith("add 1 to" if shift == 1 else "subtract 1 from")
    assert ("category_unknown", "train") not in findings
    assert {row.name: row.boxes for row in checked.classes}["class 13"] == (16, 8), "counted as they were meant"


def test_one_unknown_category_is_not_taken_for_a_shift_of_all(data: Data) -> None:
    """With 1 and 2 listed, a file with ids 2 and 3 may be off by one; a file with id 3 alone has an extra class."""
    for entry in data.train["annotations"]:
        entry["category_id"] = 3
    findings = found(data.check(skip_images=True))
    assert findings["category_unknown", "train"].count == 48
    assert ("category_off_by_one", "train") not in findings


def test_a_file_without_images_is_no_clean_data_set(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (data.train, data.val):
        content.update(images=[], annotations=[])
    assert found(data.check(skip_images=True))["no_images", "train"].ids == ["instances_train.json"]
    main([str(data.folder)])
    last = capsys.readouterr().out.split("Most worth fixing\n")[1]
    assert last.startswith("1. Files without an image")


def test_a_file_without_annotations_is_not_called_free_of_mistakes(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (data.train, data.val):
        del content["annotations"]
    data.write()
    assert main([str(data.folder)]) == 0
    out = capsys.readouterr().out
    assert "train has no annotations: it is taken for a list of images to detect in." in out
    assert out.endswith("Most worth fixing\nNothing can be trained on or evaluated: there are no annotations.\n")


def test_crowd_regions_are_not_counted_as_boxes(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    each(data.train["annotations"], 3, iscrowd=1)
    data.write()
    assert main([str(data.folder), "--image_size", "84x112"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (counts,) = (row for row in rows if row[:2] == ["train", "24"])
    assert counts[2] == "45"
    assert counts[-2:] == ["3", "2"]
    assert sum(int(row[1]) for row in rows if row[:1] in (["car"], ["tree"])) == 45


def test_small_boxes_and_too_few_queries_follow_from_the_settings(data: Data) -> None:
    """Boxes of 20 to 40 pixels in 120 x 90 are far below one patch at input 14 x 14, and above it at 84 x 112."""
    finding = found(data.check(skip_images=True, image_size=(14, 14)))["box_below_patch", "train"]
    assert finding.count == IMAGES["train"] * BOXES
    assert found(data.check(skip_images=True, num_queries=1))["too_many_boxes", "val"].count == IMAGES["val"]


def test_boxes_that_vanish_are_dropped_by_augmentation_alone(data: Data) -> None:
    each(data.train["annotations"], 1, bbox=[50, 50, 1, 10], area=10)
    assert "with augmentation drops 1," in found(data.check(skip_images=True))["box_tiny", "train"].note


def test_splits_that_disagree_about_classes_are_told(data: Data) -> None:
    data.val["categories"] = [{"id": 1, "name": "tree"}, {"id": 2, "name": "car"}]
    assert found(data.check(skip_images=True))["class_ids_differ", "train and val"].count == 2
    data.val["categories"] = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}, {"id": 3, "name": "bus"}]
    assert ("classes_differ", "train and val") not in found(data.check(skip_images=True))  # it has no box
    data.val["annotations"][0]["category_id"] = 3
    findings = found(data.check(skip_images=True))
    assert findings["classes_differ", "train and val"].ids == ["bus"]
    assert findings["classes_differ", "train and val"].effect == "stops"
    assert ("classes_absent", "train and val") not in findings


def test_only_what_training_refuses_is_said_to_stop_it(data: Data) -> None:
    """Training needs no class of train in val, and does not read test."""
    test = copy.deepcopy(data.val)
    without(test["annotations"], 12, "bbox")
    test["categories"] = [{"id": 1, "name": "tree"}, {"id": 2, "name": "car"}, {"id": 4, "name": "van"}]
    test["annotations"][0]["category_id"] = 4
    (data.folder / "annotations").mkdir()
    (data.folder / "annotations" / "instances_test.json").write_text(json.dumps(test))
    shutil.copytree(data.folder / "val", data.folder / "test")
    data.train["categories"].append({"id": 3, "name": "bus"})
    findings = found(data.check(skip_images=True))
    assert findings["classes_absent", "train and val"].ids == ["bus"]
    for kind in ("classes_differ", "class_ids_differ"):
        assert findings[kind, "train and test"].effect == ""
    assert findings["box_missing", "test"].count == 12
    assert not [place for place, finding in findings.items() if finding.effect == "stops"]


def test_a_class_that_only_one_split_has_is_told_for_the_split_that_lacks_it(data: Data) -> None:
    everything = data.train["annotations"]
    data.train["annotations"] = [entry for entry in everything if entry["category_id"] == 1]
    assert found(data.check(skip_images=True))["class_not_trained", "val"].ids == ["tree"]
    data.train["annotations"] = everything
    data.val["annotations"] = [entry for entry in data.val["annotations"] if entry["category_id"] == 1]
    assert found(data.check(skip_images=True))["class_not_evaluated", "val"].ids == ["tree"]


def test_a_class_of_a_twentieth_of_another_is_behind(data: Data) -> None:
    """10 trees are not rare by themselves; they are fewer than a twentieth of 201 cars, but not of 200."""
    trees = [entry for entry in data.train["annotations"] if entry["category_id"] == 2][:10]
    cars = [{**trees[0], "category_id": 1, "id": 1_000 + n, "bbox": [n % 90, n // 90 * 20, 9, 9]} for n in range(201)]
    data.train["annotations"] = trees + cars[:200]
    assert ("class_imbalance", "train") not in found(data.check(skip_images=True))
    data.train["annotations"] = trees + cars
    assert found(data.check(skip_images=True))["class_imbalance", "train"].ids == ["tree (10)"]


def test_a_side_in_patches_follows_from_how_the_image_is_resized(data: Data) -> None:
    """A box of 30 x 30 in 120 x 90 is 63 x 42 after stretching to 252 x 126, and 42 x 42 letterboxed by 1.4."""
    data.train["annotations"][0]["bbox"] = [10, 10, 30, 30]
    (train, _), size = data.check(skip_images=True).splits, ImageSize(126, 252)
    assert PatchGrid(size, "stretch").sides(train)[0] == pytest.approx((63 * 42) ** 0.5 / 14)
    assert PatchGrid(size, "letterbox").sides(train)[0] == pytest.approx(3)


def test_images_of_another_shape_than_the_input_are_told_with_a_shape_that_suits(data: Data) -> None:
    """Resizing 120 x 90 to 168 x 56 distorts the aspect ratio; 98 x 126 fits 4:3 with 7 x 9 patches."""
    finding = found(data.check(skip_images=True, image_size=(168, 56)))["image_stretched", "train"]
    assert finding.count == IMAGES["train"]
    assert "--resize_mode letterbox" in finding.fix


def test_a_list_of_images_is_no_mistake(data: Data) -> None:
    del data.val["annotations"]
    checked = data.check(skip_images=True)
    assert [split.labelled for split in checked.splits] == [True, False]
    assert found(checked) == {}


def test_values_that_no_json_has_are_counted_and_the_rest_is_read(data: Data) -> None:
    data.train["annotations"][0]["bbox"][2] = float("nan")
    data.train["images"][0]["license"] = "NaN, Infinity"
    findings = found(data.check(skip_images=True))
    assert {place: finding.count for place, finding in findings.items()} == {("box_no_numbers", "train"): 1}


def test_thousands_of_boxes_in_one_image_take_no_time(data: Data) -> None:
    rng = np.random.default_rng(0)
    entry = data.train["annotations"][0]
    places = rng.random((20_000, 2)) * (110, 80)
    data.train["annotations"] += [
        entry | {"id": 1_000 + row, "bbox": [x, y, 4.0, 4.0], "area": 16.0}
        for row, (x, y) in enumerate(places.tolist())
    ]
    started = time.perf_counter()
    data.check(skip_images=True)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_file_holds_the_check_ends_well(seed: int, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    strange = [None, True, "", "17", "a\0b", -1, 1e308, 10**30, 2**63, 3.5, [], [None] * 4, float("nan"), "\ud800", {}]
    rng = random.Random(seed)
    for _ in range(4):
        content = rng.choice((data.train, data.val))
        entries = content.get(rng.choice(list(content)))
        if not isinstance(entries, list) or not entries or rng.random() < 0.1:
            content[rng.choice(("images", "annotations", "categories", "info"))] = copy.deepcopy(rng.choice(strange))
        elif isinstance(entry := rng.choice(entries), dict) and entry:
            entry[rng.choice(list(entry))] = copy.deepcopy(rng.choice(strange))
    data.write()
    assert main([str(data.folder), "--skip_images"]) in (0, 2)
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    told.out.encode()


def test_one_unreadable_file_does_not_hide_the_other(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.train = json.dumps(data.train)[:-300]
    checked = data.check(skip_images=True)
    assert [split.name for split in checked.splits] == ["val"]
    assert ranked(checked.findings)[0].kind.name == "file_unreadable"
    assert main([str(data.folder / "annotations" / "instances_train.json")]) == 2
    assert "instances_train.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]', "list of detections"),
        ('{"shapes": []}', "labelme"),
        ('{"foo": 1}', 'no list "images"'),
        ("hello", "not JSON"),
        ("", "is empty"),
    ],
)
def test_what_is_no_coco_file_is_told_in_one_line(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(path) in error
    assert said in error


def test_it_ends_with_the_three_things_most_worth_fixing(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    """Leakage of all images ranks above a class without boxes, which ranks above a few missing areas."""
    for position in range(12):
        shutil.copy(
            data.folder / "train" / f"train_street_{position}.png", data.folder / "val" / f"val_street_{position}.png"
        )
    data.train["categories"].append({"id": 3, "name": "bus"})
    data.val["categories"].append({"id": 3, "name": "bus"})
    without(data.train["annotations"], 4, "area")
    again(data.train, "annotations", 0, id=900, area=1)
    data.check()
    listed = data.folder / "all.json"
    assert main([str(data.folder), "--image_size", "84x112", "--output", str(listed)]) == 0
    out = capsys.readouterr().out
    last = out[out.index("Most worth fixing") :].splitlines()
    assert last[1].startswith("1. Images that are also in the other split, byte for byte: val in train 12 of 12 images")
    assert [line[:2] for line in last if line[:1].isdigit()] == ["1.", "2.", "3."]
    rows = {row["kind"]: row for row in json.loads(listed.read_text())["findings"]}
    assert len(rows["leak_exact"]["ids"]) == rows["leak_exact"]["count"] == 12
    assert rows["area_missing"]["count"] == 4


def test_a_clean_set_says_that_nothing_was_found(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.check()
    assert main([str(data.folder), "--image_size", "84x112"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Most worth fixing\nNothing: no mistake was found.\n")
    rows = [line.split() for line in out.splitlines()]
    assert ["train", "24", "48", "2.0", "2", "0"] in [row[:6] for row in rows]
    assert ["car", "24", "12", "50.0", "%", "36"] in [row[:6] for row in rows]


def test_names_can_not_steer_the_terminal(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (data.train, data.val):
        content["categories"][0]["name"] = "car\x1b[31m\nline"
    data.check(skip_images=True)
    main([str(data.folder), "--skip_images"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "car?[31m line" in out


def test_the_format_of_each_split_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path)
    main([str(tmp_path), "--skip_images"])
    printed, lists = capsys.readouterr().out, tmp_path / "ImageSets" / "Main"
    assert f"train  Pascal VOC {lists / 'train.txt'}, images in {tmp_path / 'JPEGImages'}\n" in printed
    assert f"val    Pascal VOC {lists / 'val.txt'}, images in {tmp_path / 'JPEGImages'}\n" in printed


def test_one_json_is_enough_and_a_second_may_be_compared(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.check()
    train, val = (data.folder / "annotations" / f"instances_{split}.json" for split in ("train", "val"))
    flags = ["--image_size", "84x112"]
    assert main([str(train), *flags]) == 0
    assert f"images in {data.folder / 'train'}" in capsys.readouterr().out
    assert main([str(train), "--val_annotations", str(val), *flags]) == 0
    assert f"val    COCO {val}" in capsys.readouterr().out
    assert main([str(data.folder), "--images", str(data.folder / "train")]) == 2
    assert main([str(train), "--image_size", "100"]) == 2


def test_the_layout_of_roboflow_is_known(data: Data, tmp_path: Path) -> None:
    data.check()
    for split, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(data.folder / split, tmp_path / "export" / name)
        shutil.copy(
            data.folder / "annotations" / f"instances_{split}.json",
            tmp_path / "export" / name / "_annotations.coco.json",
        )
    sources = find_sources(tmp_path / "export")
    loaded = load(sources, tmp_path / "export", [None] * len(sources))
    assert [(split.name, split.images_dir.name) for split in loaded.splits] == [("train", "train"), ("val", "valid")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_of_test_images_hides_no_annotation_file(encoding: str, data: Data, tmp_path: Path) -> None:
    """PowerShell's ``>`` writes UTF-16."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    contents = {"train": data.train, "val": data.val, "image_info_test2017": {"images": data.val["images"]}}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding)
    assert [source.name for source in find_sources(tmp_path)] == ["train", "val", "test"]


def test_every_kind_says_what_to_do() -> None:
    assert all(kind.fix and kind.title and 0 < kind.severity <= 1 for kind in KINDS.values())
