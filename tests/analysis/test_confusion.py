import numpy as np
import pytest
import supervision as sv
from detection_cases import annotations_of, case, case_by_hand, random_case

from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.mistakes import confusion_matrix


def matched(built):
    ground_truth, results = built
    return DetectionMatches.of(annotations_of(ground_truth), results)


def test_rows_are_truth_and_columns_are_predictions():
    counts = confusion_matrix(matched(case_by_hand()), threshold=0.5)
    # One of three cats is found, and one dog is taken for a cat. False: a duplicate, a misplaced and an invented cat,
    # and the dog with IoU 0.4 on a cat. The third cat's detection has a score of 0.3.
    assert counts.tolist() == [[1, 0, 2], [1, 1, 1], [3, 1, 0]]


def test_the_largest_overlap_pairs_first():
    truths = [(1, "cat", (0, 0, 100, 100))]
    detections = [(1, "dog", (0, 0, 100, 60), 0.9), (1, "owl", (0, 0, 100, 90), 0.5)]
    counts = confusion_matrix(matched(case(truths, detections, categories=("cat", "dog", "owl"))), threshold=0)
    assert counts[0].tolist() == [0, 0, 1, 0]
    assert counts[3].tolist() == [0, 1, 0, 0]


def test_what_a_crowd_excuses_is_not_there():
    truths = [(1, "cat", (0, 0, 100, 100), "crowd")]
    assert not confusion_matrix(matched(case(truths, [(1, "cat", (0, 0, 9, 9), 0.9)])), threshold=0).any()


@pytest.mark.parametrize("threshold", [0, 0.4, 0.8])
def test_every_box_and_detection_counts_once(threshold):
    matches = matched(random_case(3))
    counts = confusion_matrix(matches, threshold=threshold)
    np.testing.assert_array_equal(counts[:-1].sum(axis=1), matches.boxes_of_class)
    kept = (matches.detections.scores >= threshold) & matches.counted
    np.testing.assert_array_equal(
        counts[:, :-1].sum(axis=0), np.bincount(matches.detections.labels[kept], minlength=len(matches.categories))
    )
    assert np.trace(counts) == (kept & matches.correct[0]).sum()


def test_where_boxes_are_apart_it_is_supervisions():
    chance = np.random.default_rng(0)
    truths, detections = [], []
    for position in range(24):
        box = np.array([position % 6 * 100, position // 6 * 100, 80, 80], dtype=float)
        truths.append((1, ("cat", "dog")[position % 2], box.tolist()))
        if position % 4:
            moved = box + np.append(chance.uniform(0, 25, 2), [0, 0])
            detections.append((1, str(chance.choice(["cat", "dog"])), moved.tolist(), float(chance.random())))
    matches = matched(case(truths, detections))
    table = matches.detections

    def detections_of(labels, boxes, scores=None):
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        return sv.Detections(xyxy=corners, class_id=labels, confidence=scores)

    expected = sv.ConfusionMatrix.from_detections(
        predictions=[detections_of(table.labels, table.boxes, table.scores)],
        targets=[detections_of(matches.truth.labels, matches.truth.boxes)],
        classes=["cat", "dog"],
        conf_threshold=0.3,
        iou_threshold=0.5,
    ).matrix
    assert (expected > 0).sum() >= 7
    np.testing.assert_array_equal(confusion_matrix(matches, threshold=0.3), expected)
