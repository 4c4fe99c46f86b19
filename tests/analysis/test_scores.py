import numpy as np
import pytest
import torch
from detection_cases import annotations_of, case, case_by_hand, random_case
from torchmetrics.functional.classification import binary_calibration_error

from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.scores import (
    DEFAULT_THRESHOLD,
    best_threshold,
    calibration,
    class_thresholds,
    overall_threshold,
)
from dino_detector.validate import coco_evaluation


def best(scores, correct, boxes):
    return best_threshold(np.array(scores, dtype=float), np.array(correct, dtype=bool), boxes=boxes)


def test_f1_by_hand():
    # With 1, 2, 3, 4 detections kept, 1, 1, 2, 2 of 3 boxes are found: F1 2/4, 2/5, 4/6, 4/7.
    chosen = best([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 3)
    assert chosen.threshold == 0.7
    assert (chosen.F1, chosen.precision, chosen.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_of_two_equal_the_higher_score_wins():
    # F1 is 2/3 with one detection and two boxes, and 4/6 with four detections.
    assert best([0.9, 0.8, 0.7, 0.6], [1, 0, 0, 1], 2).threshold == 0.9


def test_equal_scores_are_kept_or_left_together():
    chosen = best([0.5, 0.5, 0.5], [1, 0, 0], 1)
    assert chosen.threshold == 0.5
    assert chosen.precision == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("scores", "shortest"),
    [
        ([0.8765, 0.8712], 0.8765 - 0.0005),
        ([0.8765, 0.8701], 0.876),
        ([0.87654321, 0.87654319], 0.87654321),
        ([0.29, 0.1], 0.29),
        ([0.00000012, 0.0000001], 0.00000012),
    ],
)
def test_the_threshold_is_short_and_keeps_the_same_detections(scores, shortest):
    chosen = best(scores, [1, 0], 1).threshold
    assert chosen == pytest.approx(shortest, abs=1e-12)
    assert scores[1] < chosen <= scores[0]


def test_nothing_right_has_no_threshold():
    assert best([0.9], [0], 2) == (None, 0, 0, 0)
    assert best([], [], 2) == (None, 0, None, 0)


@pytest.mark.parametrize("seed", range(3))
def test_no_score_of_a_class_does_better(seed):
    ground_truth, results = random_case(seed)
    matches = DetectionMatches.of(annotations_of(ground_truth), results)
    table, counted = matches.detections, matches.counted

    def f1(threshold, chosen, boxes):
        kept = chosen & counted & (table.scores >= threshold)
        return 2 * matches.correct[0][kept].sum() / (kept.sum() + boxes)

    for label, threshold in enumerate(class_thresholds(matches)):
        own, boxes = table.labels == label, matches.boxes_of_class[label]
        if threshold is None or threshold.threshold is None:
            assert boxes == 0 or not matches.correct[0][own].any()
            continue
        assert threshold.F1 == pytest.approx(f1(threshold.threshold, own, boxes))
        assert threshold.F1 == pytest.approx(max(f1(score, own, boxes) for score in table.scores[own]))
    everything = np.ones(len(own), dtype=bool)
    assert f1(overall_threshold(matches), everything, len(matches.truth.labels)) == pytest.approx(
        max(f1(score, everything, len(matches.truth.labels)) for score in table.scores)
    )


def test_one_threshold_for_all_classes():
    # By falling score: wrong, right, right, wrong, wrong, wrong, wrong, right; 6 boxes. 4/9 after the third.
    ground_truth, results = case_by_hand()
    assert overall_threshold(DetectionMatches.of(annotations_of(ground_truth), results)) == 0.9


def test_where_nothing_is_right_there_is_still_a_threshold():
    ground_truth, results = case([(1, "cat", (0, 0, 9, 9))], [])
    assert overall_threshold(DetectionMatches.of(annotations_of(ground_truth), results)) == DEFAULT_THRESHOLD


def calibrated(ground_truth, results):
    return calibration(coco_evaluation(annotations_of(ground_truth).ground_truth, results).evaluator)


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_equals_torchmetrics(seed):
    ground_truth, results = random_case(seed)
    matches = DetectionMatches.of(annotations_of(ground_truth), results)
    expected = binary_calibration_error(
        torch.tensor(matches.detections.scores[matches.counted]),
        torch.tensor(matches.correct[0][matches.counted]),
        n_bins=10,
    )
    assert calibrated(ground_truth, results)["error"] == pytest.approx(float(expected), abs=1e-6)


def test_calibration_bins_by_hand():
    truths = [(1, "cat", (0, 0, 100, 100)), (1, "cat", (200, 200, 200, 200), "crowd")]
    detections = [
        (1, "cat", (0, 0, 100, 100), 0.96),
        (1, "cat", (0, 0, 100, 90), 0.92),  # a duplicate is wrong
        (1, "cat", (220, 220, 10, 10), 0.95),  # ignored in the crowd
        (1, "cat", (500, 0, 10, 10), 0.2),  # in the bin that starts there
    ]
    measured = calibrated(*case(truths, detections))
    keys = ("low", "high", "count", "score", "precision")
    bins = [tuple(row[key] for key in keys) for row in measured["bins"]]
    assert bins[9] == pytest.approx((0.9, 1, 2, 0.94, 0.5))
    assert bins[2] == pytest.approx((0.2, 0.3, 1, 0.2, 0))
    assert bins[1] == (pytest.approx(0.1), pytest.approx(0.2), 0, None, None)
    assert measured["error"] == pytest.approx((2 * 0.44 + 0.2) / 3)


def test_a_score_of_one_is_in_the_last_bin():
    assert calibrated(*case([], [(1, "cat", (0, 0, 9, 9), 1.0)]))["bins"][-1]["count"] == 1


def test_nothing_detected_has_no_calibration_error():
    measured = calibrated(*case([(1, "cat", (0, 0, 9, 9))], []))
    assert measured["error"] is None
    assert {row["count"] for row in measured["bins"]} == {0}
