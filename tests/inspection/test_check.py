"""Every kind of mistake in a case of its own, made from a clean data set; and a clean one has none."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_detector.config import ImageSize
from dino_detector.inspect_data import main
from dino_detector.inspection.check import Check, check, load
from dino_detector.inspection.findings import Finding, ranked
from dino_detector.inspection.kinds import KINDS
from dino_detector.inspection.layouts import find_sources
from dino_detector.inspection.patches import PatchGrid

IMAGES, BOXES = {"train": 24, "val": 12}, 2
SIZE = (120, 90)

Content = dict[str, Any]


def clean(split: str) -> Content:
    """COCO annotations with two boxes of different classes an image, no two images alike."""
    rng = np.random.default_rng(0 if split == "train" else 1)
    first = 1 if split == "train" else 1001
    images = [
        {"id": first + number, "file_name": f"{split}_street_{number}.png", "width": SIZE[0], "height": SIZE[1]}
        for number in range(IMAGES[split])
    ]
    annotations = []
    for image in images:
        for category in (1, 2):
            width, height = (int(side) for side in rng.integers(20, 40, 2))
            x, y = int(rng.integers(0, 19)) + 60 * (category - 1), int(rng.integers(0, 50))
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image["id"], "category_id": category},
                    **{"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0},
                }
            )
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}]
    return {"images": images, "annotations": annotations, "categories": categories}


class Data:
    """A data set in a folder, in COCO's layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train, self.val = clean("train"), clean("val")
        for seed, (split, content) in enumerate((("train", self.train), ("val", self.val))):
            (folder / split).mkdir(parents=True)
            rng = np.random.default_rng(seed)
            for image in content["images"]:
                coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(folder / split / image["file_name"])

    def write(self) -> None:
        (self.folder / "annotations").mkdir(exist_ok=True)
        for split, content in (("train", self.train), ("val", self.val)):
            path = self.folder / "annotations" / f"instances_{split}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))

    def check(
        self, *, image_size: tuple[int, int] = (84, 112), num_queries: int = 100, skip_images: bool = False
    ) -> Check:
        self.write()
        sources = find_sources(self.folder)
        loaded = load(sources, self.folder, [None] * len(sources))
        grid = PatchGrid(ImageSize(*image_size), "stretch")
        return check(loaded, grid=grid, num_queries=num_queries, advance=None if skip_images else lambda: None)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "set")


def found(checked: Check) -> dict[tuple[str, str], Finding]:
    return {(finding.kind, finding.split): finding for finding in checked.findings}


def test_a_clean_data_set_has_no_finding(data: Data) -> None:
    assert found(data.check()) == {}
    assert found(data.check(skip_images=True)) == {}


def each(entries: list[dict[str, Any]], count: int, **changes: Any) -> None:
    for entry in entries[:count]:
        entry.update(copy.deepcopy(changes))


def without(entries: list[dict[str, Any]], count: int, key: str) -> None:
    for entry in entries[:count]:
        del entry[key]


def moved(boxes: list[dict[str, Any]], convert: Callable[..., list[float]]) -> None:
    for entry in boxes:
        entry["bbox"] = convert(*entry["bbox"])


def again(content: Content, key: str, position: int, **changes: Any) -> None:
    content[key].append(copy.deepcopy(content[key][position]) | changes)


CASES: dict[str, tuple[Callable[[Content], Any], int]] = {
    "entry_no_object": (lambda c: c["annotations"].extend([17, "x"]), 2),
    "image_id": (lambda c: [each(c["images"], 1, id="1"), each(c["images"][1:], 1, id=2.0)], 2),
    "annotation_id": (lambda c: each(c["annotations"], 3, id="seventeen"), 3),
    "category_reference": (lambda c: each(c["annotations"], 1, category_id="1"), 1),
    "image_reference": (lambda c: each(c["annotations"], 2, image_id="1"), 2),
    "image_id_twice": (lambda c: again(c, "images", 0, file_name="train_street_1.png"), 1),
    "annotation_id_twice": (lambda c: c["annotations"][5].update(id=1), 1),
    "category_id_twice": (lambda c: again(c, "categories", 0, name="bus"), 1),
    "image_unknown": (lambda c: each(c["annotations"], 2, image_id=999), 2),
    "category_unknown": (lambda c: each(c["annotations"], 3, category_id=9), 3),
    "file_name_missing": (lambda c: without(c["images"], 1, "file_name"), 1),
    "image_size": (lambda c: each(c["images"], 2, width=0), 2),
    "crowd_value": (lambda c: each(c["annotations"], 1, iscrowd="no"), 1),
    "crowd_missing": (lambda c: without(c["annotations"], 4, "iscrowd"), 4),
    "area_missing": (lambda c: without(c["annotations"], 4, "area"), 4),
    "area_value": (lambda c: each(c["annotations"], 1, area="big"), 1),
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


def test_small_boxes_and_too_few_queries_follow_from_the_settings(data: Data) -> None:
    """Boxes of 20 to 40 pixels on 120 x 90 are far below a patch at 14 x 14 input, and all fit at 84 x 112."""
    finding = found(data.check(skip_images=True, image_size=(14, 14)))["box_below_patch", "train"]
    assert finding.count == IMAGES["train"] * BOXES
    assert found(data.check(skip_images=True, num_queries=1))["too_many_boxes", "val"].count == IMAGES["val"]


def test_splits_that_disagree_about_classes_are_told(data: Data) -> None:
    data.val["categories"] = [{"id": 1, "name": "tree"}, {"id": 2, "name": "car"}]
    assert found(data.check(skip_images=True))["class_ids_differ", "train and val"].count == 2
    data.val["categories"] = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}, {"id": 3, "name": "bus"}]
    assert found(data.check(skip_images=True))["classes_differ", "train and val"].count == 1


def test_copies_are_found_by_bytes_and_by_looks_within_a_split_and_across(data: Data) -> None:
    train, val = data.folder / "train", data.folder / "val"
    shutil.copy(train / "train_street_0.png", train / "train_street_1.png")  # exact, within
    shutil.copy(train / "train_street_2.png", val / "val_street_0.png")  # exact, across
    picture = Image.open(train / "train_street_3.png")
    picture.resize((100, 75)).resize(SIZE).point(lambda value: min(255, value + 4)).save(val / "val_street_1.png")
    picture = Image.open(train / "train_street_4.png")
    picture.save(train / "train_street_5.png", optimize=False, compress_level=1)  # same pixels, other bytes
    findings = found(data.check())
    ids = {place: list(finding.ids) for place, finding in findings.items()}
    assert ids == {
        ("image_twice", "train"): ["train_street_1.png = train_street_0.png"],
        ("image_nearly_twice", "train"): ["train_street_5.png = train_street_4.png"],
        ("leak_exact", "val in train"): ["val_street_0.png = train_street_2.png"],
        ("leak_near", "val in train"): ["val_street_1.png = train_street_3.png"],
    }


def test_without_opening_images_leaks_are_told_by_boxes_and_by_names(data: Data) -> None:
    data.val["images"][0]["file_name"] = "train_street_7.png"
    boxes = [entry["bbox"] for entry in data.train["annotations"] if entry["image_id"] == data.train["images"][9]["id"]]
    for entry, bbox in zip(data.val["annotations"][4:6], boxes, strict=True):
        entry.update(bbox=bbox, area=bbox[2] * bbox[3])
    findings = found(data.check(skip_images=True))
    assert findings["leak_name", "val in train"].ids == ["train_street_7.png"]
    assert findings["leak_boxes", "val in train"].ids == ["val_street_2.png = train_street_9.png"]


def test_names_that_merely_count_are_weak_evidence(data: Data) -> None:
    for content in (data.train, data.val):
        for number, image in enumerate(content["images"]):
            image["file_name"] = f"{number:04d}.png"
    findings = found(data.check(skip_images=True))
    assert findings["leak_plain_name", "val in train"].count == IMAGES["val"]
    assert ("leak_name", "val in train") not in findings


def test_broken_missing_and_extra_files_are_named(data: Data) -> None:
    train = data.folder / "train"
    (train / "train_street_0.png").write_bytes((train / "train_street_0.png").read_bytes()[:300])
    (train / "train_street_1.png").unlink()
    shutil.copy(train / "train_street_2.png", train / "forgotten.png")
    Image.new("RGB", (90, 120), "red").save(train / "train_street_3.png")
    findings = found(data.check())
    assert "train_street_0.png" in findings["image_unreadable", "train"].ids[0]
    assert findings["image_missing", "train"].ids == ["train_street_1.png"]
    assert [Path(path).name for path in findings["image_extra", "train"].ids] == ["forgotten.png"]
    assert findings["image_size_swapped", "train"].count == 1


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
        ('{"shapes": []}', "LabelMe"),
        ('{"foo": 1}', 'no list "images"'),
        ("hello", "not JSON"),
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
    """Leakage of all images harms more than a class without boxes, and that more than a few areas left out."""
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
    assert last[1].startswith("1. Images that are also there, byte for byte: val in train 12 of 12 images")
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
    assert "car?[31m?line" in out


def test_one_json_is_enough_and_a_second_may_be_compared(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.check()
    train, val = (data.folder / "annotations" / f"instances_{split}.json" for split in ("train", "val"))
    flags = ["--image_size", "84x112"]
    assert main([str(train), *flags]) == 0
    assert f"images in {data.folder / 'train'}" in capsys.readouterr().out
    assert main([str(train), "--val_annotations", str(val), *flags]) == 0
    assert f"val    {val}" in capsys.readouterr().out
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


def test_every_kind_says_what_to_do() -> None:
    assert all(kind.fix and kind.title and 0 < kind.severity <= 1 for kind in KINDS.values())
