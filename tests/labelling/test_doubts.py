"""The ranking, with detections that are worked out by hand; no detector trains here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_detector.labelling.doubts import Doubts, rank
from dino_detector.labelling.labelled_data import JoinedData
from dino_detector.structures.categories import Categories

IMAGES, PER_IMAGE = 40, 6
CATEGORIES = Categories((3, 7), ("cat", "dog"))


def perfect_data(count: int = IMAGES) -> tuple[JoinedData, dict[int, list[dict[str, Any]]]]:
    """Return images with six labels each, and a detection of each label, close to it and with a high score."""
    rng = np.random.default_rng(0)
    labels, found = [], {}
    for image in range(1, count + 1):
        found[image] = []
        for number in range(PER_IMAGE):
            bbox = [100.0 * number + 20, float(rng.uniform(10, 300)), 60.0, 60.0]
            category = (3, 7)[int(rng.integers(2))]
            one = {"image_id": image, "category_id": category}
            number_of_label = len(labels) + 1
            labels.append(one | {"id": number_of_label, "original_id": number_of_label, "bbox": bbox, "iscrowd": 0})
            near = (np.array(bbox) + rng.normal(0, 2, 4)).tolist()
            found[image].append(one | {"bbox": near, "score": float(rng.uniform(0.6, 0.95))})
        found[image].append({"image_id": image, "category_id": 3, "bbox": [600.0, 400.0, 30.0, 30.0], "score": 0.06})
    images = [{"id": image, "file_name": f"{image}.jpg", "height": 480, "width": 640} for image in range(1, count + 1)]
    return JoinedData(
        Path("/"), images, labels, CATEGORIES, tuple(("train", 100 + image["id"]) for image in images)
    ), found


@pytest.fixture(scope="module")
def ranked() -> Doubts:
    """Rank labels; the labels 1, 20, 50 and 100 are spoiled by hand."""
    data, found = perfect_data()
    labels = {label["id"]: label for label in data.labels}
    labels[1]["category_id"] = 10 - labels[1]["category_id"]
    labels[20]["bbox"] = [labels[20]["bbox"][0] + 20, labels[20]["bbox"][1] + 10, 60.0, 60.0]  # IoU 0.38
    data.labels.append(labels[50] | {"id": 999, "original_id": 999, "bbox": [n + 5 for n in labels[50]["bbox"]]})
    data.labels.remove(labels[100])
    return rank(data, found, np.arange(IMAGES) % 3, seed=0)


def test_the_spoiled_labels_come_first_with_their_kinds(ranked: Doubts):
    first = {(row.kind, row.annotation_id) for row in ranked.rows[:4]}
    assert first == {("class", 1), ("loose", 20), ("double", 999), ("missing", None)}
    assert ranked.rows[3].doubt > 2 * ranked.rows[4].doubt


def test_each_label_is_in_the_list_once(ranked: Doubts):
    ids = [row.annotation_id for row in ranked.rows if row.kind != "missing"]
    assert sorted(ids) == [*range(1, 100), *range(101, IMAGES * PER_IMAGE + 1), 999]
    assert ranked.labels == len(ids)
    assert [row.doubt for row in ranked.rows] == sorted((row.doubt for row in ranked.rows), reverse=True)


def test_a_doubt_names_the_ids_of_the_data_and_what_the_detections_show(ranked: Doubts):
    by_kind = {row.kind: row for row in ranked.rows[:4]}
    wrong, missing, double = by_kind["class"], by_kind["missing"], by_kind["double"]
    assert {wrong.class_name, wrong.suggested_class} == {"cat", "dog"}
    assert (wrong.split, wrong.image_id, wrong.file_name, wrong.fold) == ("train", 101, "1.jpg", 0)
    assert missing.bbox is None
    assert missing.image_id == 100 + 17  # label 100 was in the image of labels 97 to 102
    assert double.twin_id == 50
    np.testing.assert_allclose(double.bbox, np.array(double.twin_bbox) + 5)
    assert ranked.to_json()["doubts"][0]["kind"] == ranked.rows[0].kind


def test_crowd_regions_are_no_labels():
    data, found = perfect_data(6)
    data.labels[0]["iscrowd"] = 1
    assert rank(data, found, np.zeros(6, np.int64), seed=0).labels == 6 * PER_IMAGE - 1
