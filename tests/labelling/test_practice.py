from __future__ import annotations

import numpy as np

from dino_detector.labelling.evidence import Boxes, ious
from dino_detector.labelling.practice import DOUBLE, FINE, LOOSE, WRONG_CLASS, shifted, spoiled

SIZE = (480, 640)


def grid_of_labels() -> Boxes:
    """Return 48 boxes of 40 pixels that do not overlap, of classes 0, 1 and 2."""
    corners = np.array([(x, y) for x in range(0, 640, 80) for y in range(0, 480, 80)], np.float64)
    return Boxes(np.column_stack([corners + 10, corners + 50]), np.arange(len(corners)) % 3, np.ones(len(corners)))


def test_every_kind_of_practice_mistake_is_what_it_is_called():
    labels, kinds = grid_of_labels(), set()
    for seed in range(10):
        practice = spoiled(labels, classes=np.arange(3), size=SIZE, rng=np.random.default_rng(seed))
        overlap = ious(practice.labels.xyxy, labels.xyxy)
        original = overlap.argmax(axis=1)
        for row, state in enumerate(practice.states.tolist()):
            kinds.add(state)
            same_class = practice.labels.classes[row] == labels.classes[original[row]]
            assert same_class == (state != WRONG_CLASS)
            if state == LOOSE:
                assert 0.25 <= overlap[row].max() <= 0.65
            elif state == DOUBLE:
                assert 0.65 <= overlap[row].max()
                assert (original == original[row]).sum() == 2
            else:
                assert overlap[row].max() == 1
        removed = ious(practice.removed, labels.xyxy).argmax(axis=1)
        assert len(practice.labels.classes) - (practice.states == DOUBLE).sum() + len(removed) == len(labels.classes)
        assert not np.isin(removed, original).any()
    assert kinds == {FINE, WRONG_CLASS, LOOSE, DOUBLE}


def test_the_labels_themselves_stay_unchanged():
    labels = grid_of_labels()
    before = [column.copy() for column in labels]
    spoiled(labels, classes=np.arange(3), size=SIZE, rng=np.random.default_rng(0))
    assert all(np.array_equal(one, other) for one, other in zip(labels, before, strict=True))


def test_with_one_class_no_label_gets_a_wrong_one():
    labels = grid_of_labels()._replace(classes=np.zeros(48, np.int64))
    for seed in range(5):
        practice = spoiled(labels, classes=np.arange(1), size=SIZE, rng=np.random.default_rng(seed))
        assert not (practice.states == WRONG_CLASS).any()


def test_a_shifted_box_stays_inside_the_image():
    box = np.array([0.0, 0.0, 640.0, 480.0])
    moved = [shifted(box, (0.3, 0.6), size=SIZE, rng=np.random.default_rng(seed)) for seed in range(10)]
    assert all(one is None or ((one[:2] >= 0).all() and (one[2:] <= (640, 480)).all()) for one in moved)
