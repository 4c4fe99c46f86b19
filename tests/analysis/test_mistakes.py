import json
from pathlib import Path

import numpy as np
import pytest
from detection_cases import annotations_of, case, case_by_hand
from tide_reference import cases

from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.mistakes import KINDS, find_mistakes, mistake_costs

TIDE = json.loads(Path(__file__).with_name("tide_reference.json").read_text())["cases"]
NAMES = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
"""TIDE's names for our kinds of mistakes"""
WITHOUT_ABSENT = [name for name in TIDE if not name.startswith("absent")]


def measured(ground_truth, results):
    matches = DetectionMatches.of(annotations_of(ground_truth), results)
    mistakes = find_mistakes(matches)
    return matches, mistakes, mistake_costs(matches, mistakes)


def kinds_of(ground_truth, results):
    _, mistakes, _ = measured(ground_truth, results)
    return [KINDS[kind] for kind in mistakes.kinds]


def test_a_case_worked_out_by_hand():
    # Cats by score: right, duplicate, localisation, classification, background, right; 3 boxes. The first right one
    # has precision 1 at recall 1/3 (levels 0.00 to 0.33, 34 of them), the second 2/6 at 2/3 (33 more): 34 + 33/3 = 45.
    # Dogs: both, right; 3 boxes: precision 1/2 at recall 1/3: 17. AP50 is (45 + 17) / 2 / 101.
    def mean(cats, dogs):
        return (cats + dogs) / 202

    _, _, costs = measured(*case_by_hand())
    assert costs.AP50 == pytest.approx(mean(45, 17))
    expected = {
        # One false cat fewer, 2/5 instead of 2/6; dogs: wrong, right, right, so 2/3 up to recall 2/3, 67 levels.
        "classification": mean(34 + 33 * 2 / 5, 67 * 2 / 3),
        # Cats: right, wrong, right, wrong, wrong, right: 1, 2/3 and 3/6, the last at recall 1.
        "localisation": mean(34 + 33 * 2 / 3 + 34 * 3 / 6, 17),
        "both": mean(45, 34),
        "duplicate": mean(34 + 33 * 2 / 5, 17),
        "background": mean(34 + 33 * 2 / 5, 17),
        # The second dog. Two dogs are left, and 1/2 holds up to recall 1/2: 51 levels.
        "missed": mean(45, 51 / 2),
    }
    for kind, after in expected.items():
        assert costs.by_kind[kind] == pytest.approx(after - mean(45, 17)), kind
        assert costs.counts[kind] == 1
    assert costs.false_positives == pytest.approx(mean(67, 34) - mean(45, 17))
    # Two cats, found at precision 1 and 2/6; one dog, found at 1/2.
    assert costs.false_negatives == pytest.approx(mean(51 + 50 / 3, 101 / 2) - mean(45, 17))


@pytest.mark.parametrize("name", WITHOUT_ABSENT)
def test_costs_equal_tidecv(name):
    # Numbers that tidecv 1.0.1 printed; tide_reference.py has the commands.
    expected = TIDE[name]
    _, _, costs = measured(*cases()[name])
    assert 100 * costs.AP50 == pytest.approx(expected["AP50"], abs=1e-9)
    for kind, short in NAMES.items():
        assert 100 * costs.by_kind[kind] == pytest.approx(expected["main"][short], abs=1e-9), kind
    assert 100 * costs.false_positives == pytest.approx(expected["special"]["FalsePos"], abs=1e-9)
    assert 100 * costs.false_negatives == pytest.approx(expected["special"]["FalseNeg"], abs=1e-9)
    assert costs.counts["missed"] == expected["counts"]["Miss"]


@pytest.mark.parametrize("name", TIDE)
def test_costs_of_each_class_equal_tidecv(name):
    expected = TIDE[name]
    matches, _, costs = measured(*cases()[name])
    for label, category_id in enumerate(map(str, matches.categories.ids)):
        if matches.boxes_of_class[label] == 0:
            assert all(np.isnan(costs.of_classes[kind][label]) for kind in NAMES)
            continue
        for kind, short in NAMES.items():
            after, before = expected["repaired"][short][category_id], expected["classes"][category_id]
            cost = 100 if after is None else max(after - before, 0)  # None: neither boxes nor detections are left
            assert 100 * costs.of_classes[kind][label] == pytest.approx(cost, abs=1e-9), (kind, category_id)


@pytest.mark.parametrize("name", [name for name in TIDE if name not in WITHOUT_ABSENT])
def test_classes_without_ground_truth_are_left_out_of_the_mean(name):
    # tidecv counts them as 0, and leaves them out once a repair has removed their detections.
    matches, _, costs = measured(*cases()[name])
    present = [str(matches.categories.ids[label]) for label in np.flatnonzero(matches.boxes_of_class)]
    before = np.mean([TIDE[name]["classes"][category_id] for category_id in present])
    assert 100 * costs.AP50 == pytest.approx(before, abs=1e-9)
    assert before > TIDE[name]["AP50"], "the case must have detections of such a class"
    for kind, short in NAMES.items():
        repaired = [TIDE[name]["repaired"][short][category_id] for category_id in present]
        after = np.mean([number for number in repaired if number is not None])
        assert 100 * costs.by_kind[kind] == pytest.approx(max(after - before, 0), abs=1e-9), kind


@pytest.mark.parametrize("name", TIDE)
def test_only_what_a_crowd_excuses_is_not_counted(name):
    matches, mistakes, costs = measured(*cases()[name])
    for kind, short in NAMES.items():
        if kind != "missed":
            excused = ((mistakes.kinds == KINDS.index(kind)) & matches.ignored[0]).sum()
            assert costs.counts[kind] + excused == TIDE[name]["counts"][short]


def test_a_kind_does_not_depend_on_lower_scores():
    ground_truth, results = cases()["random 0"]
    matches, mistakes, _ = measured(ground_truth, results)
    for threshold in (0.3, 0.6, 0.9):
        above = matches.detections.scores >= threshold
        fewer, same, _ = measured(ground_truth, [row for row in results if row["score"] >= threshold])
        np.testing.assert_array_equal(same.kinds, mistakes.kinds[above])
        np.testing.assert_array_equal(same.ious, mistakes.ious[above])
        np.testing.assert_array_equal(fewer.ignored, matches.ignored[:, above])


def test_the_iou_is_that_with_the_box_which_decides():
    truths = [(1, "cat", (0, 0, 100, 100)), (1, "dog", (0, 0, 50, 40))]
    detections = [
        (1, "cat", (0, 0, 100, 80), 0.9),  # right: 0.8 with the cat
        (1, "cat", (0, 0, 100, 60), 0.8),  # 0.6 with the cat, a duplicate; 0.33 with the dog
        (1, "dog", (0, 0, 20, 40), 0.7),  # 0.4 with the dog, 0.08 with the cat: localisation
        (1, "cat", (300, 300, 10, 10), 0.6),
    ]
    _, mistakes, _ = measured(*case(truths, detections))
    assert [KINDS[kind] for kind in mistakes.kinds] == ["correct", "duplicate", "localisation", "background"]
    assert mistakes.ious == pytest.approx([0.8, 0.6, 0.4, 0])
    assert mistakes.targets.tolist() == [0, -1, 1, -1]


def test_everything_is_background_where_there_is_no_truth():
    ground_truth, results = case([(1, "cat", (0, 0, 9, 9))], [(2, "cat", (0, 0, 9, 9), 0.5)], images=(1, 2))
    assert kinds_of(ground_truth, results) == ["background"]


def test_without_detections_all_is_missed():
    _, _, costs = measured(*case([(1, "cat", (0, 0, 9, 9))], []))
    assert costs.counts["missed"] == 1
    assert costs.of_classes["missed"][0] == 1
    assert (costs.AP50, costs.false_positives) == (0, 0)


def test_without_ground_truth_there_is_no_ap():
    _, _, costs = measured(*case([], [(1, "cat", (0, 0, 9, 9), 0.5)]))
    assert np.isnan(costs.AP50)
    assert set(costs.by_kind.values()) == {0}
    assert costs.counts["background"] == 1
