from __future__ import annotations

import numpy as np
import torch

from dino_detector.labelling.suggestions import choose, entropies, objects_in, uncertainties
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections


def detections(*rows: tuple[float, float, float, float, float, int]) -> ImageDetections:
    table = torch.tensor(rows).reshape(-1, 6)
    return ImageDetections(table[:, :4], table[:, 4], table[:, 5].long())


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


NONE_LABELLED = np.zeros(4, bool)


def test_the_entropy_of_a_score_is_in_bits():
    np.testing.assert_allclose(entropies(np.array([0.5, 0.25, 1.0])), [1, 0.811278, 0], atol=1e-4)


def test_two_detections_of_one_object_count_once():
    found = detections((0, 0, 10, 10, 0.5, 0), (0, 0, 10, 9, 0.4, 1), (50, 50, 60, 60, 0.3, 1), (0, 50, 9, 60, 0.01, 0))
    assert objects_in(found).scores.tolist() == [0.5, torch.tensor(0.3).item()]


def test_a_certain_picture_is_less_uncertain_than_one_with_scores_near_one_half():
    categories = Categories((1, 2), ("a", "b"))
    sure, unsure = detections((0, 0, 9, 9, 0.99, 0)), detections((0, 0, 9, 9, 0.5, 0))
    values = uncertainties([sure, unsure, detections()], categories)
    assert values[1] > values[0] > values[2] == 0


def test_the_second_picture_is_unlike_the_first():
    picks = choose(np.array([1.0, 0.9, 0.5, 0.1]), on_circle(0, 1, 90, 180), np.arange(4), NONE_LABELLED, count=2)
    assert [pick.row for pick in picks] == [0, 2]


def test_of_near_copies_one_is_chosen_at_most():
    picks = choose(np.ones(4), on_circle(0, 90, 180, 270), np.array([0, 0, 1, 1]), NONE_LABELLED, count=4)
    assert len(picks) == 2
    assert {pick.row // 2 for pick in picks} == {0, 1}


def test_labelled_pictures_and_their_copies_are_not_chosen():
    is_labelled = np.array([True, False, False, False])
    picks = choose(np.ones(4), on_circle(0, 0, 10, 90), np.array([0, 0, 1, 2]), is_labelled, count=4)
    assert [pick.row for pick in picks] == [3, 2]
    np.testing.assert_allclose(picks[0].distance, 1, atol=1e-9)  # a right angle from the labelled picture


def test_pictures_without_any_detection_can_be_chosen():
    picks = choose(np.zeros(4), on_circle(0, 90, 180, 270), np.arange(4), NONE_LABELLED, count=4)
    assert len(picks) == 4
