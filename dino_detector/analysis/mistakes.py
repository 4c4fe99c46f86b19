"""Kinds of mistakes and the AP50 that each kind costs: TIDE.

Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors. ECCV 2020,
arXiv:2008.08115. The authors' package ``tidecv`` (1.0.1) gives the same costs, with three exceptions:

- Every mean leaves out classes without ground truth, as COCO does. tidecv counts their AP50 as 0, so that a repair
  seems to gain AP50 when it removes all detections of such a class.
- 100 detections of an image and class take part, as in COCO. In tidecv, 100 detections of an image take part.
- Equal scores keep the order of images and rows. In tidecv the order depends on the kind of mistake.

As in tidecv, a repair may turn an ignored detection in a crowd region into a true positive, although the detection is
no false positive and is not counted. If no box of a class is found and the misses are repaired, the class has nothing
left to find: it keeps its AP50 of 0 if it has detections, and otherwise leaves the mean.

hotcoco's ``tide_errors`` differs from tidecv. With one cat that is found and one dog without any detection, a missed
dog costs 0.5 of AP50; hotcoco says 0. In all random cases of the tests, which have crowd regions, its costs of poor
boxes and of missed boxes differ. It has no costs of a class and no kind of a detection either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dino_detector.analysis.average_precision import average_precision
from dino_detector.analysis.matches import NONE, DetectionMatches

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
FALSE_POSITIVES = ("classification", "localisation", "both", "duplicate", "background")
"""kinds of false positives; the sixth kind, "missed", is a kind of box"""
KINDS = ("correct", *FALSE_POSITIVES)
LEVELS = np.arange(101) / 100
"""tidecv's recall levels: some differ from COCO's in the last bit, and a recall may lie between the two"""


@dataclass(frozen=True)
class Mistakes:
    """The kind of each detection at IoU 0.50, and the missed boxes. Of equal IoUs, the later box counts.

    A kind depends on the boxes and on higher scores of the same image and class alone, so that it holds at every score
    threshold. A box is missed if no detection would find it even with its class or its place repaired.

    Attributes:
        kinds: ``[D]`` index into `KINDS`, also of ignored detections.
        targets: ``[D]`` box of a true positive, and of a false positive with a wrong class or place; else -1.
        ious: ``[D]`` IoU with the box that decides the kind: with the target, for a duplicate with the found box, and
            for other kinds the largest IoU with a box of any class.
        missed: ``[G]`` bool.
    """

    kinds: np.ndarray
    targets: np.ndarray
    ious: np.ndarray
    missed: np.ndarray


class Costs(NamedTuple):
    """AP50, and the AP50 that would be gained by a repair of one kind of mistake.

    Attributes:
        AP50: mean over classes with ground truth; NaN without such classes.
        by_kind: gain for each of `FALSE_POSITIVES` and "missed", at least 0. The gains do not add up to 1 - AP50.
        of_classes: gain of each class, ``[C]``; NaN for a class without ground truth. For a class without detections,
            misses cost all of the AP50 that it lacks.
        false_positives: gain with every false positive ranked below the true positives.
        false_negatives: gain without the boxes that are not found.
        counts: number of mistakes of each kind, without ignored detections.
    """

    AP50: float
    by_kind: dict[str, float]
    of_classes: dict[str, np.ndarray]
    false_positives: float
    false_negatives: float
    counts: dict[str, int]


def find_mistakes(matches: DetectionMatches) -> Mistakes:
    """Assign a kind to each detection by TIDE's tests, in TIDE's order."""
    pairs, found = matches.pairs, matches.found[0]
    same_box, same_iou = _best(pairs.same_class, matches)
    other_box, other_iou = _best(~pairs.same_class, matches)
    largest = np.maximum(same_iou, other_iou)
    tests = [
        found != NONE,
        (same_iou >= BACKGROUND_IOU) & (same_iou <= FOREGROUND_IOU),
        other_iou >= FOREGROUND_IOU,
        same_iou > FOREGROUND_IOU,  # without a match: higher scores have taken all such boxes
        largest <= BACKGROUND_IOU,
    ]
    names = ("correct", "localisation", "classification", "duplicate", "background")
    kinds = np.select(tests, [KINDS.index(name) for name in names], default=KINDS.index("both"))

    correct, wrong_place, wrong_class = (kinds == KINDS.index(name) for name in names[:3])
    targets = np.select([correct, wrong_place, wrong_class], [found, same_box, other_box], default=NONE)
    ious = np.select([wrong_place | tests[3], wrong_class], [same_iou, other_iou], default=largest)
    own = pairs.truths == found[pairs.detections]
    ious[pairs.detections[own]] = pairs.ious[own]

    missed = np.ones(len(matches.truth.labels), dtype=bool)
    missed[targets[targets != NONE]] = False
    return Mistakes(kinds, targets, ious, missed)


def _best(chosen: np.ndarray, matches: DetectionMatches) -> tuple[np.ndarray, np.ndarray]:
    """Return the box with the largest IoU among the chosen pairs of each detection, and that IoU, both ``[D]``."""
    boxes = np.full(len(matches.detections.scores), NONE)
    ious = np.zeros(len(boxes))
    rows = matches.pairs.detections[chosen]  # IoU rises within a detection: the last assignment stays
    boxes[rows], ious[rows] = matches.pairs.truths[chosen], matches.pairs.ious[chosen]
    return boxes, ious


def mistake_costs(matches: DetectionMatches, mistakes: Mistakes) -> Costs:
    """Repair each kind alone, and compare AP50 with the AP50 before.

    Of the false positives with a wrong class or place and the same target, the one with the highest score becomes a
    true positive if nothing finds the target. The others are removed, and so are all duplicates and background.
    Missed boxes leave the ground truth.
    """
    labels, boxes, present = matches.detections.labels, matches.boxes_of_class, matches.boxes_of_class > 0
    correct, counted, targets = mistakes.kinds == KINDS.index("correct"), matches.counted, mistakes.targets
    repairable = _repairable(matches, mistakes)

    def ap(keep: np.ndarray, hits: np.ndarray, classes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return the AP50 of each class, ``[C]``; NaN for a class that leaves the mean."""
        scores = _class_ap(classes[keep], matches.detections.scores[keep], hits[keep], wanted)
        detected = np.bincount(classes[keep], minlength=len(boxes)) > 0
        scores[(wanted == 0) & detected] = 0
        return scores

    before = ap(counted, correct, labels, boxes)
    by_kind, of_classes, counts = {}, {}, {}
    for name in FALSE_POSITIVES:
        of_kind = mistakes.kinds == KINDS.index(name)
        repaired = of_kind & repairable
        classes = labels.copy()
        classes[repaired] = matches.truth.labels[targets[repaired]]
        after = ap((counted & ~of_kind) | repaired, correct | repaired, classes, boxes)
        by_kind[name], of_classes[name] = _gain(before, after, present)
        counts[name] = int((of_kind & counted).sum())
    missed = np.bincount(matches.truth.labels[mistakes.missed], minlength=len(boxes))
    after = ap(counted, correct, labels, boxes - missed)
    by_kind["missed"], of_classes["missed"] = _gain(before, after, present)
    of_classes["missed"][present & np.isnan(after)] = 1
    counts["missed"] = int(mistakes.missed.sum())

    found = np.bincount(labels[correct], minlength=len(boxes))
    base = _mean(before[present])
    return Costs(
        AP50=base if present.any() else float("nan"),
        by_kind=by_kind,
        of_classes=of_classes,
        false_positives=_mean(ap(correct, correct, labels, boxes)[present]) - base,
        false_negatives=_mean(ap(counted, correct, labels, found)[present]) - base,
        counts=counts,
    )


def _repairable(matches: DetectionMatches, mistakes: Mistakes) -> np.ndarray:
    """Return the false positives that become true positives: the highest score of each target that is not found."""
    wrong = mistakes.kinds != KINDS.index("correct")
    is_found = ~np.isnan(matches.found_scores())
    rows = np.flatnonzero(wrong & (mistakes.targets != NONE))
    rows = rows[~is_found[mistakes.targets[rows]]]
    _, first = np.unique(mistakes.targets[rows], return_index=True)  # scores fall within an image
    repairable = np.zeros(len(wrong), dtype=bool)
    repairable[rows[first]] = True
    return repairable


def _class_ap(labels: np.ndarray, scores: np.ndarray, correct: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    order = np.lexsort((-scores, labels))  # stable
    labels, correct = labels[order], correct[order]
    starts = np.searchsorted(labels, np.arange(len(boxes)))
    hits = np.concatenate([[0], np.cumsum(correct)])
    rows = np.flatnonzero(correct)
    first = starts[labels[rows]]
    return average_precision(labels[rows], hits[rows + 1] - hits[first], rows + 1 - first, boxes=boxes, levels=LEVELS)


def _gain(before: np.ndarray, after: np.ndarray, present: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the gain of the mean and of each class, ``[C]``. Rounding to recall levels can make a loss: it is 0."""
    mean = _mean(after[present]) - _mean(before[present])
    return max(mean, 0.0), np.where(present, np.maximum(np.nan_to_num(after) - before, 0), np.nan)


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; 0 without such values."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else 0.0
