from __future__ import annotations

import numpy as np

from dino_detector.labelling.evidence import Boxes, label_evidence, unlabelled_evidence

SIZE = (100, 200)


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


def test_a_label_is_compared_with_the_detection_that_shows_its_object_best():
    labels = boxes((0, 0, 10, 10, 0, 1), (50, 50, 70, 70, 1, 1))
    found = boxes((100, 0, 110, 10, 0, 0.9), (51, 50, 71, 70, 0, 0.8), (50, 50, 70, 70, 1, 0.1))
    evidence = label_evidence(labels, found, size=SIZE)
    assert evidence.detections.tolist() == [-1, 1]
    assert evidence.twins.tolist() == [-1, -1]
    assert np.isfinite(evidence.features).all()


def test_of_two_labels_of_one_object_the_one_that_fits_the_detection_less_is_the_weaker():
    labels = boxes((0, 0, 10, 10, 0, 1), (1, 1, 12, 12, 0, 1), (0, 0, 10, 10, 1, 1))
    evidence = label_evidence(labels, boxes((1, 1, 12, 12, 0, 0.9)), size=SIZE)
    assert evidence.twins.tolist() == [1, 0, -1]
    assert evidence.weaker.tolist() == [True, False, False]


def test_of_two_equal_labels_one_alone_is_the_weaker():
    labels = boxes((0, 0, 10, 10, 0, 1), (0, 0, 10, 10, 0, 1))
    for found in (boxes(), boxes((0, 0, 10, 10, 0, 0.5))):
        assert label_evidence(labels, found, size=SIZE).weaker.sum() == 1


def test_an_object_without_a_label_counts_once_with_its_best_detection():
    labels = boxes((0, 0, 20, 20, 0, 1))
    found = boxes(
        (0, 0, 19, 20, 0, 0.9),  # has a label
        (50, 50, 70, 70, 0, 0.3),
        (51, 50, 70, 70, 1, 0.6),  # the same object
        (90, 10, 99, 30, 0, 0.01),  # hardly an object
    )
    assert unlabelled_evidence(labels, found, size=SIZE).detections.tolist() == [2]


def test_images_without_labels_or_detections_have_no_evidence_about_them():
    assert label_evidence(boxes(), boxes((0, 0, 9, 9, 0, 0.9)), size=SIZE).features.shape[0] == 0
    assert unlabelled_evidence(boxes((0, 0, 9, 9, 0, 1)), boxes(), size=SIZE).features.shape[0] == 0
    assert label_evidence(boxes((0, 0, 9, 9, 0, 1)), boxes(), size=SIZE).detections.tolist() == [-1]
