"""Contents of the image files, and duplicate pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from small_set import IMAGES, SIZE, Data, found


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


def test_copies_of_one_picture_that_roboflow_made_are_a_leak(data: Data) -> None:
    first, second = (f"dog_jpg.rf.{letter * 32}.jpg" for letter in "ab")
    data.train["images"][0]["file_name"], data.val["images"][0]["file_name"] = first, second
    assert found(data.check(skip_images=True))["leak_source", "val in train"].ids == [f"{second} = {first}"]


def test_one_address_is_one_picture(data: Data) -> None:
    for content in (data.train, data.val):
        content["images"][2]["coco_url"] = "http://example.org/1.jpg"
    expected = ["val_street_2.png = train_street_2.png"]
    assert found(data.check(skip_images=True))["leak_url", "val in train"].ids == expected


def test_what_images_are_is_counted_and_what_training_can_not_read_is_found(data: Data) -> None:
    train = data.folder / "train"
    noise = np.random.default_rng(5).random((SIZE[1], SIZE[0]))
    for number, mode in enumerate(("L", "RGBA", "P")):
        path = train / f"train_street_{number}.png"
        Image.open(path).convert(mode).save(path)
    Image.fromarray((noise * 60_000).astype(np.uint16)).save(train / "train_street_3.png")
    Image.fromarray((1 - noise).astype(np.float32)).save(train / "train_street_4.tif")
    picture = Image.open(train / "train_street_5.png")
    picture.save(train / "train_street_5.gif", save_all=True, append_images=[picture.transpose(0)])
    picture = Image.open(train / "train_street_6.png")
    picture.convert("CMYK").save(train / "train_street_6.jpg")
    turned = Image.Exif()
    turned[274] = 6
    picture = Image.open(train / "train_street_7.png").transpose(Image.Transpose.ROTATE_90)
    picture.save(train / "train_street_7.jpg", exif=turned)  # shown as it was
    for number, suffix in ((4, "tif"), (5, "gif"), (6, "jpg"), (7, "jpg")):
        (train / f"train_street_{number}.png").unlink()
        data.train["images"][number]["file_name"] = f"train_street_{number}.{suffix}"
    checked = data.check()
    kinds = {"grey": 1, "with transparency": 1, "with a palette": 2, "16-bit": 1, "floating-point": 1, "CMYK": 1}
    kinds |= {"turned by EXIF": 1, "colour": 17}
    assert dict(checked.kinds[0]) == kinds
    assert {(finding.kind, *finding.ids) for finding in checked.findings} == {
        ("image_animated", "train_street_5.gif"),
    }


def test_a_jpeg_that_is_cut_short_is_damaged(data: Data) -> None:
    path = data.folder / "train" / "train_street_0.jpg"
    Image.open(path.with_suffix(".png")).save(path)
    path.with_suffix(".png").unlink()
    path.write_bytes(path.read_bytes()[:-200])
    data.train["images"][0]["file_name"] = path.name
    assert found(data.check())["image_unreadable", "train"].count == 1


def test_names_that_no_file_can_have_are_missing_files(data: Data) -> None:
    for image, name in zip(data.train["images"], ("x" * 300, "a\0b", "\ud800.png"), strict=False):
        image["file_name"] = name
    assert found(data.check(skip_images=True))["image_missing", "train"].count == 3


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
