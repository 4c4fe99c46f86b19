from __future__ import annotations

import copy
import gzip
import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError


def test_images_keep_file_order_and_empty_ones_stay(write_json, coco):
    annotations = CocoAnnotations.read(write_json(coco))
    assert tuple(annotations.images) == ((30, "c.jpg", 40, 60), (0, "a.jpg", 40, 60), (7, "b.jpg", 40, 60))
    boxes, labels = annotations.training_boxes(0)
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_categories_are_ordered_by_id_whatever_their_order_in_the_file(write_json, coco):
    categories = CocoAnnotations.read(write_json(coco)).categories
    assert categories.ids == (0, 4, 9)
    assert categories.names == ("cat", "dog", "owl")


def test_training_boxes_are_xyxy_with_contiguous_labels_and_without_crowds(write_json, coco):
    annotations = CocoAnnotations.read(write_json(coco))
    boxes, labels = annotations.training_boxes(7)
    assert boxes.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert boxes.tolist() == [[1, 2, 11, 22]]
    assert labels.tolist() == [2]
    boxes, labels = annotations.training_boxes(30)
    assert boxes.tolist() == [[50.5, 30.5, 60, 40]]
    assert labels.tolist() == [0]


def test_order_of_annotations_does_not_change_whose_boxes_they_are(write_json, coco):
    extra = [{"id": 20 + x, "image_id": (30, 0, 7)[x % 3], "category_id": 4, "bbox": [x, x, 3, 4]} for x in range(12)]
    coco["annotations"] = extra
    annotations = CocoAnnotations.read(write_json(coco))
    for start, image_id in enumerate((30, 0, 7)):
        expected = [[x, x, x + 3, x + 4] for x in range(start, 12, 3)]
        assert annotations.training_boxes(image_id)[0].tolist() == expected
        assert [entry["id"] for entry in annotations.annotations_of(image_id)] == list(range(20 + start, 32, 3))


def test_annotations_of_an_image_include_its_crowds(write_json, coco):
    annotations = CocoAnnotations.read(write_json(coco))
    assert [entry["id"] for entry in annotations.annotations_of(7)] == [5, 9]
    assert annotations.annotations_of(0) == []


def test_boxes_over_the_edge_are_clipped_and_counted_once(write_json, coco, caplog):
    coco["annotations"][0]["bbox"] = [-5, -4, 100, 50]
    coco["annotations"][1]["bbox"] = [50, 30, 10.6, 10.6]  # within a pixel of the edge: rounding, no warning
    with caplog.at_level(logging.WARNING):
        annotations = CocoAnnotations.read(write_json(coco))
    assert annotations.training_boxes(7)[0].tolist() == [[0, 0, 60, 40]]
    assert annotations.training_boxes(30)[0].tolist() == [[50, 30, 60, 40]]
    assert len(caplog.records) == 1
    assert "boxes that reach beyond their image: 1 of 3" in caplog.text
    assert "id 5" in caplog.text


def test_ground_truth_gets_what_evaluators_need(write_json, coco):
    for entry in coco["annotations"]:
        for key in ("id", "area", "iscrowd"):
            del entry[key]
    entries = CocoAnnotations.read(write_json(coco)).ground_truth["annotations"]
    assert [entry["area"] for entry in entries] == [200, 90.25, 2400]
    assert [entry["iscrowd"] for entry in entries] == [0, 0, 0]
    assert [entry["id"] for entry in entries] == [1, 2, 3]


def test_ground_truth_keeps_what_the_file_says(write_json, coco):
    ground_truth = CocoAnnotations.read(write_json(coco)).ground_truth
    assert ground_truth.pop("info") == {}
    coco["categories"].sort(key=lambda entry: entry["id"])
    assert ground_truth == coco


def test_annotation_id_0_does_not_count_as_unmatched_in_pycocotools(write_json, coco):
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    from pycocotools.coco import COCO

    coco["annotations"] = [
        {"id": 0, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20]},
        {"id": 1, "image_id": 30, "category_id": 9, "bbox": [1, 2, 10, 20]},
    ]
    ground_truth = COCO()
    ground_truth.dataset = copy.deepcopy(CocoAnnotations.read(write_json(coco)).ground_truth)
    ground_truth.createIndex()
    results = [{"image_id": i, "category_id": 9, "bbox": [1, 2, 10, 20], "score": 0.9} for i in (7, 30)]
    evaluation = cocoeval.COCOeval(ground_truth, ground_truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def changed(key, position, **values):
    def change(content):
        content[key][position].update(values)
        return content

    return change


def removed(key, position, field):
    def change(content):
        del content[key][position][field]
        return content

    return change


def replaced(key, value):
    return lambda content: content | {key: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: '{"images": [', "not JSON, or cut short"),
        (lambda _: "\x00\x01", "not JSON, or cut short"),
        (lambda _: " \n", "is empty"),
        (lambda _: [], "is a list, not a COCO detection file"),
        (lambda _: 3, 'it has no list "images"'),
        (lambda content: {"annotations": content["annotations"]}, 'it has no list "images"'),
        (
            lambda content: {"images": content["images"]},
            r'lists that are missing or empty.*"annotations", "categories"',
        ),
        (lambda content: {key: content[key] for key in ("images", "categories")}, 'no list "annotations"'),
        (replaced("categories", {}), r'lists that are missing or empty.*"categories"'),
        (replaced("categories", []), r'lists that are missing or empty.*"categories"'),
        (replaced("images", []), "without an image.*instances.json"),
        (replaced("images", [3]), "entries that are not readable objects"),
        (replaced("annotations", [None]), "entries that are not readable objects: 1 of 7"),
        (replaced("categories", ["cat"]), "entries that are not readable objects"),
        (removed("images", 1, "id"), r"image ids that are not whole numbers.*missing"),
        (changed("images", 1, id="0"), r"image ids that are not whole numbers.*'0'"),
        (changed("images", 1, id=True), "image ids that are not whole numbers.*True"),
        (changed("images", 1, id=1.5), r"image ids that are not whole numbers.*1\.5"),
        (changed("images", 1, id="9" * 19), "image ids that are not whole numbers.*'9999999999999999999'"),
        (changed("annotations", 1, image_id="9" * 19), "annotations whose image_id is not a whole number.*id 2"),
        (changed("images", 2, height=-(10**350)), r"images without a valid width and height.*b\.jpg"),
        (changed("images", 1, id=2**63), "image ids that are not whole numbers.*9223372036854775808"),
        (removed("images", 1, "file_name"), r"images without a file_name.*id 0"),
        (removed("images", 2, "height"), r"images without a valid width and height.*b\.jpg"),
        (changed("images", 2, width=0), r"images without a valid width and height.*b\.jpg"),
        (changed("images", 1, id=7), "image ids that appear more than once.*id 7"),
        (changed("categories", 1, id=9), "category ids that appear more than once.*id 9"),
        (changed("categories", 1, id=None), "category ids that are not whole numbers.*null"),
        (changed("annotations", 1, id=5), "annotation ids that appear more than once.*id 5"),
        (changed("annotations", 1, image_id=8), "annotations of an image that is not in the file.*images 8.*id 2"),
        (changed("annotations", 1, category_id=1), "of a category that is not in the file.*categories 1.*id 2"),
        (removed("annotations", 1, "category_id"), "annotations whose category_id is not a whole number.*id 2"),
        (changed("annotations", 0, iscrowd=2), "iscrowd that is neither 0 nor 1.*id 5"),
        (changed("annotations", 0, area="big"), "areas that are not numbers.*id 5"),
        (changed("annotations", 0, area=-1), "areas that are not numbers.*id 5"),
        (changed("annotations", 0, area=1e300), "areas that are not numbers.*id 5"),
        (changed("annotations", 0, area=10**400), "areas that are not numbers.*id 5"),
    ],
)
def test_bad_file_is_one_line_with_file_id_and_remedy(write_json, coco, change, message):
    path = write_json(change(coco))
    with pytest.raises(InputError, match=message) as caught:
        CocoAnnotations.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


UNUSABLE = [
    *([1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, 3, float("inf")], [1, 2, 10**400, 4]),
    *(None, [5, 5, -3, 3], [5, 5, 3, 0], [60, 5, 3, 3], [5, -9, 3, 9], [5, 5, 1e-8, 3]),
]


@pytest.mark.parametrize("bbox", UNUSABLE, ids=lambda bbox: str(bbox)[:20])
def test_one_box_that_can_not_be_used_is_left_out_and_named(write_json, coco, bbox, caplog):
    coco["annotations"][0]["bbox"] = bbox
    annotations = CocoAnnotations.read(write_json(coco))
    assert [entry["id"] for entry in annotations.ground_truth["annotations"]] == [2, 9]
    assert annotations.training_boxes(7)[0].shape == (0, 4)
    (record,) = caplog.records
    assert "1 of 3" in record.getMessage()
    assert "id 5" in record.getMessage()
    assert "training leaves them out" in record.getMessage()


@pytest.mark.parametrize("bbox", UNUSABLE, ids=lambda bbox: str(bbox)[:20])
def test_many_boxes_that_can_not_be_used_are_an_error(write_json, coco, bbox):
    for entry in coco["annotations"]:
        entry["bbox"] = bbox
    with pytest.raises(InputError, match=r"3 of 3 .*ids 5, 2, 9"):
        CocoAnnotations.read(write_json(coco))


def test_boxes_of_all_kinds_of_no_use_are_counted_together(write_json, coco):
    coco["annotations"][0]["bbox"] = [5, 5, 3, 0]
    coco["annotations"][1]["bbox"] = None
    with pytest.raises(InputError, match="annotations without a bbox"):
        CocoAnnotations.read(write_json(coco))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[3, 4, 13, 4, 13, 24.5]], [3, 4, 10, 20.5]),
        ([[3, 4, 5, 4, 5, 6], [20, 1, 22, 1, 22, 9]], [3, 1, 19, 8]),
        ({"size": [40, 60], "counts": [5 * 40 + 7, 3, 37, 3, 40 * 60 - 250]}, [5, 7, 2, 3]),
    ],
    ids=["polygon", "two polygons", "runs"],
)
def test_boxes_come_from_masks_where_there_is_no_bbox(write_json, coco, mask, expected, caplog):
    del coco["annotations"][0]["bbox"]
    coco["annotations"][0]["segmentation"] = mask
    (entry, _) = CocoAnnotations.read(write_json(coco)).annotations_of(7)
    assert entry["bbox"] == expected
    assert "id 5" in caplog.text


def test_a_mask_in_cocos_compressed_runs_tells_its_box(write_json, coco):
    maskUtils = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[7:12, 30:41] = 1
    runs = maskUtils.encode(mask)
    coco["annotations"][0].update(bbox=[], segmentation={"size": [40, 60], "counts": runs["counts"].decode()})
    (entry, _) = CocoAnnotations.read(write_json(coco)).annotations_of(7)
    assert entry["bbox"] == [30, 7, 11, 5]


HUGE = {"size": ["5", 2**40], "counts": [5 * 2**40]}


@pytest.mark.parametrize("mask", [[], [[1, 2, 3]], [["a", "b"]], {"size": [40, 60], "counts": [7]}, {}, 3, [[]], HUGE])
def test_what_is_no_mask_leaves_the_annotation_without_a_box(write_json, coco, mask):
    coco["annotations"][0].update(bbox=None, segmentation=mask)
    assert len(CocoAnnotations.read(write_json(coco)).annotations_of(7)) == 1


def test_sizes_that_the_file_lacks_are_read_from_the_pictures(write_json, coco, tmp_path, caplog):
    turned = Image.Exif()
    turned[274] = 6
    for entry, size, exif in zip(coco["images"], ((60, 40), (60, 40), (40, 60)), (None, None, turned), strict=True):
        Image.new("RGB", size).save(tmp_path / entry["file_name"], **({"exif": exif} if exif else {}))
    del coco["images"][0]["width"]
    coco["images"][1].update(width=0, height=None)
    coco["images"][2].update(width="60", height=40)
    annotations = CocoAnnotations.read(write_json(coco), images=tmp_path)
    assert annotations.images.sizes.tolist() == [[40, 60]] * 3, "as the pictures are displayed"
    assert len(annotations.entries) == 3
    assert "3 of 3 images" in caplog.text


def test_whole_numbers_may_have_a_point(write_json, coco):
    for entry in coco["images"]:
        entry.update(id=float(entry["id"]), width=60.0)
    for entry in coco["annotations"]:
        entry.update(image_id=float(entry["image_id"]), category_id=float(entry["category_id"]), id=float(entry["id"]))
    annotations = CocoAnnotations.read(write_json(coco))
    assert annotations.images.ids.tolist() == [30, 0, 7]
    assert annotations.ground_truth["annotations"][0]["id"] == 5


def test_a_class_may_be_named_by_a_number_and_one_without_a_name_by_its_id(write_json, coco, caplog):
    coco["categories"][0]["name"] = 0
    coco["categories"][1]["name"] = ""
    categories = CocoAnnotations.read(write_json(coco)).categories
    assert dict(zip(categories.ids, categories.names, strict=True))[9] == "0"
    assert f"category {coco['categories'][1]['id']}" in categories.names
    assert "categories without a name: 1 of 3" in caplog.text


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (lambda x, y, w, h: [x / 60, y / 40, w / 60, h / 40], "as fractions of the image"),
        (lambda x, y, w, h: [x, y, x + w, y + h], "as .x1, y1, x2, y2."),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "as .centre x, centre y"),
    ],
    ids=["fractions", "corners", "centres"],
)
def test_boxes_in_other_formats_are_refused(write_json, coco, written, message):
    boxes = [(x, y, w, h) for x in (2, 20, 39) for y in (1, 15, 20) for w in (9, 20) for h in (8, 19)]
    coco["annotations"] = [
        {"id": number, "image_id": 7, "category_id": 9, "bbox": written(*box)} for number, box in enumerate(boxes, 1)
    ]
    with pytest.raises(InputError, match=message):
        CocoAnnotations.read(write_json(coco))


def test_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: no such annotation file; correct the path"):
        CocoAnnotations.read(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="no annotation file in it"):
        CocoAnnotations.read(tmp_path)


def test_file_with_byte_order_mark_is_read(tmp_path, write_json, coco):
    path = write_json(coco)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(CocoAnnotations.read(path).images) == 3


@pytest.mark.parametrize("crowd", [True, False])
def test_training_needs_a_box_that_is_no_crowd(write_json, coco, crowd):
    coco["annotations"] = coco["annotations"][2:] if crowd else []
    annotations = CocoAnnotations.read(write_json(coco))
    with pytest.raises(InputError, match=r"instances\.json: no boxes to train on .* annotate at least one"):
        annotations.require_boxes()


def test_training_accepts_a_file_with_boxes(write_json, coco):
    CocoAnnotations.read(write_json(coco)).require_boxes()


def test_missing_images_are_named_and_counted(write_json, coco, tmp_path):
    coco["images"][0]["file_name"] = "deep/er/c.jpg"
    annotations = CocoAnnotations.read(write_json(coco))
    with pytest.raises(InputError, match="images: no such folder"):
        annotations.with_files(tmp_path / "images")
    for name in ("a.jpg", "b.jpg", "deep/er/c.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(path)
    assert annotations.with_files(tmp_path / "images") is annotations
    Path(tmp_path / "images" / "deep" / "er" / "c.jpg").unlink()
    with pytest.raises(InputError, match=r"json: image files that are missing: 1 of 3 .*images.*deep/er/c\.jpg"):
        annotations.with_files(tmp_path / "images")
    Path(tmp_path / "images" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r" 2 of 3 "):
        annotations.with_files(tmp_path / "images")


def test_a_file_of_another_encoding_is_refused(coco, tmp_path):
    coco["images"][0]["file_name"] = "é.jpg"
    path = tmp_path / "latin.json"
    path.write_bytes(json.dumps(coco, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.json: not UTF-8 text .*at byte \d+"):
        CocoAnnotations.read(path)


def test_utf_16_with_its_mark_is_read(coco, tmp_path):
    coco["images"][0]["file_name"] = "é猫.jpg"
    path = tmp_path / "wide.json"
    path.write_bytes(json.dumps(coco, ensure_ascii=False).encode("utf-16"))
    assert CocoAnnotations.read(path).images.file_names[0] == "é猫.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"{}"), "compressed by gzip; unpack it with gunzip"),
        (b"PK\x03\x04...", "a zip archive; unpack it with unzip"),
        (b'{"images": ' + b"[" * 100_000, "not JSON, or cut short"),
        (b"[" * 100_000 + b"]" * 100_000, "not JSON, or cut short.*nested too deeply"),
        (b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "instances.json: "),
        (b'{"images": [], "annotations": ' + b"9" * 5_000 + b"}", "instances.json: "),
        (b'{"images": [{"id": ' + b"9" * 5_000 + b"}]}", "instances.json: "),
    ],
    ids=["gzip", "zip", "cut in nested lists", "nested lists", "nested images", "digits", "digits of an id"],
)
def test_what_no_reader_expects_is_one_line(tmp_path, content, message):
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        CocoAnnotations.read(path)
    assert len(str(caught.value)) < 500


def test_values_in_messages_are_cut(write_json, coco):
    coco["images"][1]["id"] = "x" * 10_000
    with pytest.raises(InputError) as caught:
        CocoAnnotations.read(write_json(coco))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "ids", [[2**63 - 1, 0, 5], [-(2**63), 5, 6], [2**63 - 1, 4, None], [2**63 - 2, 4, None]], ids=str
)
def test_annotations_whose_ids_fill_64_bits_keep_ids_above_0(write_json, coco, ids):
    for entry, one in zip(coco["annotations"], ids, strict=True):
        entry["id"] = one
        if one is None:
            del entry["id"]
    found = CocoAnnotations.read(write_json(coco)).entries.ids.tolist()
    assert len(set(found)) == 3
    assert min(found) > 0


def test_images_that_are_not_listed_are_no_restriction(write_json, coco):
    with pytest.raises(AssertionError, match="1 of these images are not listed"):
        CocoAnnotations.read(write_json(coco)).restricted_to([7, 99])


def test_nan_is_missing_and_stays_in_a_text(write_json, coco):
    coco["categories"][0]["name"] = 'a, NaN, "b'
    coco["annotations"][0]["area"] = float("nan")
    annotations = CocoAnnotations.read(write_json(coco))
    assert 'a, NaN, "b' in annotations.categories.names
    assert annotations.annotations_of(7)[0]["area"] == 200


def test_a_null_crowd_is_none(write_json, coco):
    coco["annotations"][0]["iscrowd"] = None
    assert CocoAnnotations.read(write_json(coco)).annotations_of(7)[0]["iscrowd"] == 0


def test_annotations_without_ids_are_named_by_their_place(write_json, coco):
    for entry in coco["annotations"]:
        entry.pop("id", None)
    coco["annotations"][1]["category_id"] = 1
    with pytest.raises(InputError, match=r"of a category that is not in the file.*\(entry 1\)"):
        CocoAnnotations.read(write_json(coco))


def test_broken_utf_16_is_named_with_a_remedy(tmp_path):
    (tmp_path / "a.json").write_bytes('{"images": []}'.encode("utf-16") + b"\x00\xd8")
    with pytest.raises(InputError, match=r"a\.json: not UTF-16 text \(.* at byte \d+\); save it as UTF-8"):
        CocoAnnotations.read(tmp_path / "a.json")


def test_repeated_ids_and_names_take_no_time_to_count(write_json, coco):
    coco["images"] = [coco["images"][0]] * 20_000
    started = time.perf_counter()
    with pytest.raises(InputError, match="image ids that appear more than once"):
        CocoAnnotations.read(write_json(coco))
    assert time.perf_counter() - started < 3


def test_a_blank_name_is_none(write_json, coco):
    coco["categories"][0]["name"] = " \t"
    categories = CocoAnnotations.read(write_json(coco)).categories
    assert f"category {coco['categories'][0]['id']}" in categories.names
