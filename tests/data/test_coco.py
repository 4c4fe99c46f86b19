from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from dino_detector.data.coco import CocoAnnotations
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
    assert "1 boxes reach beyond" in caplog.text
    assert "annotation 5" in caplog.text


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
        (lambda _: [], 'it has no list "images"'),
        (lambda _: 3, 'it has no list "images"'),
        (lambda content: {"images": content["images"]}, 'it has no list "annotations"'),
        (replaced("categories", {}), 'it has no list "categories"'),
        (replaced("images", []), '"images" is empty; add'),
        (replaced("images", [3]), 'entry 0 of "images" is not an object'),
        (replaced("annotations", [None]), 'entry 0 of "annotations" is not an object'),
        (replaced("categories", ["cat"]), 'entry 0 of "categories" is not an object'),
        (removed("images", 1, "id"), 'entry 1 of "images" has "id" None; give a whole number'),
        (changed("images", 1, id="0"), 'entry 1 of "images" has "id" \'0\'; give a whole number'),
        (removed("images", 1, "file_name"), 'image 0 has no "file_name"; add it'),
        (removed("images", 2, "height"), 'image 7 has "height" None; give'),
        (changed("images", 2, width=0), 'image 7 has "width" 0; give'),
        (removed("categories", 0, "name"), 'category 9 has no "name"; add it'),
        (changed("images", 1, id=7), "image id 7 appears more than once; give"),
        (changed("categories", 1, id=9), "category id 9 appears more than once; give"),
        (changed("annotations", 1, id=5), "annotation id 5 appears more than once; give"),
        (
            changed("annotations", 1, image_id=8),
            'annotation 2 refers to image 8, which is not in "images"; remove the annotation or add the image',
        ),
        (
            changed("annotations", 1, category_id=1),
            'annotation 2 refers to category 1, which is not in "categories"; remove',
        ),
        (removed("annotations", 1, "category_id"), 'annotation 2 has "category_id" None; give a whole number'),
        (removed("annotations", 2, "bbox"), 'annotation 9 has "bbox" None; give four numbers'),
        (changed("annotations", 0, bbox=[1, 2, 3]), r'annotation 5 has "bbox" \[1, 2, 3\]; give four numbers'),
        (changed("annotations", 0, bbox=[1, 2, 3, "4"]), "annotation 5 .* give four numbers"),
        (changed("annotations", 0, bbox=[1, 2, 3, float("nan")]), "annotation 5 of image 7 .* is not finite; correct"),
        (changed("annotations", 0, bbox=[1, 2, 3, float("inf")]), "annotation 5 of image 7 .* is not finite; correct"),
        (changed("annotations", 0, bbox=[5, 5, -3, 3]), "annotation 5 of image 7 .* has a negative size; correct"),
        (changed("annotations", 0, bbox=[5, 5, 3, 0]), "annotation 5 of image 7 .* has zero size; correct"),
        (changed("annotations", 0, bbox=[60, 5, 3, 3]), "annotation 5 of image 7 .* lies outside the image; correct"),
        (changed("annotations", 0, bbox=[5, -9, 3, 9]), "annotation 5 of image 7 .* lies outside the image; correct"),
        (changed("annotations", 0, iscrowd=2), 'annotation 5 has "iscrowd" 2; it is 0 or 1'),
        (changed("annotations", 0, area="big"), "annotation 5 has \"area\" 'big'; give"),
    ],
)
def test_bad_file_is_one_line_with_file_id_and_remedy(write_json, coco, change, message):
    path = write_json(change(coco))
    with pytest.raises(InputError, match=message) as caught:
        CocoAnnotations.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_further_bad_boxes_are_counted(write_json, coco):
    for entry in coco["annotations"]:
        entry["bbox"] = [1, 1, 0, 5]
    with pytest.raises(InputError, match=r"annotation 5 .* has zero size \(2 more like it\)"):
        CocoAnnotations.read(write_json(coco))


def test_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: no such annotation file; correct the path"):
        CocoAnnotations.read(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read"):
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
        annotations.check_files(tmp_path / "images")
    for name in ("a.jpg", "b.jpg", "deep/er/c.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(path)
    annotations.check_files(tmp_path / "images")
    Path(tmp_path / "images" / "deep" / "er" / "c.jpg").unlink()
    with pytest.raises(InputError, match=r"deep/er/c\.jpg: file of image 30 in .*json is missing \(1 of 3 "):
        annotations.check_files(tmp_path / "images")
    Path(tmp_path / "images" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"\(2 of 3 "):
        annotations.check_files(tmp_path / "images")


def test_a_name_that_begins_with_a_slash_is_not_looked_for_in_the_folder(write_json, coco, tmp_path):
    """It is a path from the root, to all that reads it."""
    for entry in coco["images"]:
        Image.new("RGB", (60, 40)).save(tmp_path / entry["file_name"])
    coco["images"][1]["file_name"] = "/a.jpg"
    with pytest.raises(InputError, match=r"/a\.jpg: file of image 0 in .* is missing \(1 of 3 "):
        CocoAnnotations.read(write_json(coco)).check_files(tmp_path)


def test_a_file_of_another_encoding_is_refused(coco, tmp_path):
    coco["images"][0]["file_name"] = "é.jpg"
    path = tmp_path / "latin.json"
    path.write_bytes(json.dumps(coco, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.json: not JSON, or cut short \('utf-8' codec"):
        CocoAnnotations.read(path)


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


def test_an_id_of_more_than_64_bits_is_refused(write_json, coco):
    coco["annotations"][0]["id"] = 2**63 + 5
    with pytest.raises(InputError, match='has "id" 9223372036854775813; give a whole number of 64 bits'):
        CocoAnnotations.read(write_json(coco))


@pytest.mark.parametrize("key", ["bbox", "area"])
def test_a_number_that_no_float_holds_is_refused(write_json, coco, key):
    coco["annotations"][0][key] = [1, 2, 10**400, 4] if key == "bbox" else 10**400
    with pytest.raises(InputError, match=f'annotation 5 has "{key}" '):
        CocoAnnotations.read(write_json(coco))


def test_images_that_are_not_listed_are_no_restriction(write_json, coco):
    with pytest.raises(AssertionError, match="1 of these images are not listed"):
        CocoAnnotations.read(write_json(coco)).restricted_to([7, 99])
