import contextlib
import copy
import io

import numpy as np
import pytest
from detection_cases import annotations_of, case, random_case
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dino_detector.analysis.matches import IOU_THRESHOLDS, DetectionMatches


def pycocotools_matches(ground_truth, results):
    """Return whether a detection (image id, category id, score) matches a box or is ignored, at each threshold."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        for entry in truth.dataset["annotations"]:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
    boxes = {entry["id"]: tuple(entry["bbox"]) for entry in ground_truth["annotations"]}
    rows = {}
    for entry in evaluation.evalImgs:
        if entry is None or entry["aRng"] != evaluation.params.areaRng[0]:
            continue
        for column, score in enumerate(entry["dtScores"]):
            ignored = entry["dtIgnore"][:, column].astype(bool)
            found = [
                None if skip or number == 0 else boxes[int(number)]
                for number, skip in zip(entry["dtMatches"][:, column], ignored, strict=True)
            ]
            rows[entry["image_id"], entry["category_id"], score] = (found, ignored.tolist())
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_matches_equal_pycocotools_at_every_threshold(seed):
    ground_truth, results = random_case(seed, most=150)
    expected = pycocotools_matches(ground_truth, results)
    matches = DetectionMatches.of(annotations_of(ground_truth), results)
    table = matches.detections
    assert len(table.scores) == len(expected)
    for row in range(len(table.scores)):
        category_id = matches.categories.ids[table.labels[row]]
        found, ignored = expected[matches.image_ids[table.images[row]], category_id, table.scores[row]]
        boxes = [None if box < 0 else tuple(matches.truth.boxes[box]) for box in matches.found[:, row]]
        assert boxes == found
        assert matches.ignored[:, row].tolist() == ignored
    assert matches.ignored.any(axis=1).all()
    assert matches.correct.any(axis=1)[:8].all()


def test_only_the_best_hundred_of_an_image_and_class_take_part():
    detections = [(1, "cat", (0, 0, 9, 9), (number + 1) / 200) for number in range(130)]
    detections += [(1, "dog", (0, 0, 9, 9), 0.001)]
    matches = DetectionMatches.of(*_parsed(case([], detections)))
    assert len(matches.detections.scores) == 101
    assert matches.detections.scores.min() == 0.001
    assert sorted(matches.detections.scores)[1] == pytest.approx(31 / 200)


def test_a_detection_of_no_area_finds_nothing():
    truths = [(1, "cat", (0, 0, 50, 50)), (1, "cat", (100, 100, 50, 50), "crowd")]
    detections = [(1, "cat", (10, 10, 0, 20), 0.9), (1, "cat", (110, 110, 0, 0), 0.8)]
    matches = DetectionMatches.of(*_parsed(case(truths, detections)))
    assert not matches.correct.any()
    assert not matches.ignored.any()


def test_a_crowd_excuses_any_number_of_its_class_alone():
    truths = [(1, "cat", (0, 0, 100, 100), "crowd")]
    detections = [
        (1, "cat", (0, 0, 10, 10), 0.9),
        (1, "cat", (0, 0, 10, 10), 0.8),
        (1, "cat", (94, 0, 10, 10), 0.7),  # 6 of its 10 columns are inside: up to threshold 0.6
        (1, "dog", (0, 0, 10, 10), 0.6),
    ]
    matches = DetectionMatches.of(*_parsed(case(truths, detections)))
    assert matches.ignored.sum(axis=0).tolist() == [10, 10, 3, 0]
    assert matches.detections.crowd_ious == pytest.approx([1, 1, 0.6, 0])


def test_without_detections_or_truth_all_columns_are_empty():
    nothing = DetectionMatches.of(*_parsed(case([], [])))
    assert nothing.found.shape == (len(IOU_THRESHOLDS), 0)
    undetected = DetectionMatches.of(*_parsed(case([(1, "cat", (0, 0, 9, 9))], [])))
    assert np.isnan(undetected.found_scores()).tolist() == [True]
    assert undetected.boxes_of_class.tolist() == [1, 0]


def _parsed(built):
    ground_truth, results = built
    return annotations_of(ground_truth), results
