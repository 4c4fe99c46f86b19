import pytest
import torch
from detection_cases import annotations_of, case, random_case
from torchmetrics.functional.classification import binary_calibration_error

from dino_detector.analysis.calibration import BINS, calibration
from dino_detector.analysis.matches import DetectionMatches


@pytest.mark.parametrize("seed", range(3))
def test_the_error_equals_torchmetrics(seed):
    ground_truth, results = random_case(seed)
    matches = DetectionMatches.of(annotations_of(ground_truth), results)
    counted = matches.counted
    expected = binary_calibration_error(
        torch.tensor(matches.detections.scores[counted]), torch.tensor(matches.correct[0][counted]), n_bins=BINS
    )
    assert calibration(matches).error == pytest.approx(float(expected), abs=1e-6)


def test_bins_by_hand():
    truths = [(1, "cat", (0, 0, 100, 100)), (1, "cat", (200, 200, 200, 200), "crowd")]
    detections = [
        (1, "cat", (0, 0, 100, 100), 0.96),
        (1, "cat", (0, 0, 100, 90), 0.92),  # a duplicate is wrong
        (1, "cat", (220, 220, 10, 10), 0.95),  # excused by the crowd
        (1, "cat", (500, 0, 10, 10), 0.2),  # in the bin that starts there
    ]
    ground_truth, results = case(truths, detections)
    measured = calibration(DetectionMatches.of(annotations_of(ground_truth), results))
    assert measured.bins[9] == (0.9, 1, 2, pytest.approx(0.94), 0.5)
    assert measured.bins[2] == (0.2, 0.3, 1, pytest.approx(0.2), 0)
    assert measured.bins[1] == (0.1, 0.2, 0, None, None)
    assert measured.error == pytest.approx((2 * 0.44 + 0.2) / 3)


def test_a_score_of_one_is_in_the_last_bin():
    ground_truth, results = case([], [(1, "cat", (0, 0, 9, 9), 1.0)])
    assert calibration(DetectionMatches.of(annotations_of(ground_truth), results)).bins[-1].count == 1


def test_nothing_detected_has_no_error():
    ground_truth, results = case([(1, "cat", (0, 0, 9, 9))], [])
    measured = calibration(DetectionMatches.of(annotations_of(ground_truth), results))
    assert measured.error is None
    assert {row.count for row in measured.bins} == {0}
