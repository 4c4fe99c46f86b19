"""What kind of mistakes cost how much AP50: TIDE.

Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors. ECCV 2020,
arXiv:2008.08115. The costs are those of its authors' package ``tidecv`` (1.0.1), except that

- classes without ground truth are left out of every mean, as COCO leaves them out; tidecv counts their AP50 as 0, so
  that a repair which removes all of their detections seems to gain;
- the best 100 detections of an image and class take part, as in COCO; in tidecv, the best 100 of an image;
- equal scores keep the order of images and rows; in tidecv the order depends on the kind of mistake.

As in tidecv, a detection that a crowd excuses is no false positive, yet it may be what a repair turns into the
detection of a box; it is not counted. And a class that has nothing left to find, because none of its boxes was found
and these misses are repaired, keeps its AP50 of 0 if it has detections, and else drops out of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dino_detector.analysis.average_precision import average_precision
from dino_detector.analysis.matches import NONE, Matches

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
FALSE_POSITIVES = ("classification", "localisation", "both", "duplicate", "background")
"""kinds of detections that find no box; the sixth kind, "missed", is of boxes"""
KINDS = ("correct", *FALSE_POSITIVES)
LEVELS = np.arange(101) / 100
"""recall levels as tidecv computes them: some differ from COCO's in the last bit, and a recall may fall between"""


@dataclass(frozen=True)
class Mistakes:
    """What each detection is at IoU 0.50, and which boxes are missed. Ties of IoU go to the later box.

    A kind depends on the boxes and on higher-scored detections of the same image and class alone, so it is the same
    at every score threshold. Missed is here what no detection would find even if its class or place were mended.

    Attributes:
        kinds: ``[D]`` position in `KINDS`; of ignored detections, too.
        targets: ``[D]`` the box that a detection finds, or that a wrong class or place is about; else -1.
        ious: ``[D]`` IoU with the box that decides the kind: that of ``targets``, the taken one of a duplicate, else
            the one with the largest IoU, of whatever class; 0 if none overlaps.
        missed: ``[G]`` bool.
    """

    kinds: np.ndarray
    targets: np.ndarray
    ious: np.ndarray
    missed: np.ndarray


class Costs(NamedTuple):
    """Average precision at IoU 0.50, and how much more of it there would be without the mistakes of one kind.

    Attributes:
        AP50: mean over classes with ground truth; NaN if there are none.
        by_kind: for `FALSE_POSITIVES` and "missed", each repaired alone. Not below 0. They don't add up to 1 - AP50.
        of_classes: the same for each class, ``[C]``; NaN for a class without ground truth. All of the AP50 that a class
            without a single detection lacks is the cost of its misses.
        false_positives: with every detection that finds nothing ranked below those that find a box.
        false_negatives: without the boxes that are not found.
        counts: mistakes of each kind; ignored detections are none.
    """

    AP50: float
    by_kind: dict[str, float]
    of_classes: dict[str, np.ndarray]
    false_positives: float
    false_negatives: float
    counts: dict[str, int]


def find_mistakes(matches: Matches) -> Mistakes:
    """Sort the detections into kinds, by TIDE's tests in TIDE's order."""
    pairs, found = matches.pairs, matches.found[0]
    same_box, same_iou = _best(pairs.same_class, matches)
    other_box, other_iou = _best(~pairs.same_class, matches)
    largest = np.maximum(same_iou, other_iou)
    tests = [
        found != NONE,
        (same_iou >= BACKGROUND_IOU) & (same_iou <= FOREGROUND_IOU),
        other_iou >= FOREGROUND_IOU,
        same_iou > FOREGROUND_IOU,  # and yet it finds nothing: better scored detections have taken all such boxes
        largest <= BACKGROUND_IOU,
    ]
    names = ("correct", "localisation", "classification", "duplicate", "background")
    kinds = np.select(tests, [KINDS.index(name) for name in names], default=KINDS.index("both"))

    correct, wrong_place, wrong_class = (kinds == KINDS.index(name) for name in names[:3])
    targets = np.select([correct, wrong_place, wrong_class], [found, same_box, other_box], default=NONE)
    ious = np.select([wrong_place | tests[3], wrong_class], [same_iou, other_iou], default=largest)
    own = pairs.truths == found[pairs.detections]  # the pairs of a detection and the box that it finds
    ious[pairs.detections[own]] = pairs.ious[own]

    missed = np.ones(len(matches.truth.labels), dtype=bool)
    missed[targets[targets != NONE]] = False
    return Mistakes(kinds, targets, ious, missed)


def _best(chosen: np.ndarray, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """``[D]`` and ``[D]``: the box that a detection overlaps most among the chosen pairs, and their IoU."""
    boxes = np.full(len(matches.detections.scores), NONE)
    ious = np.zeros(len(boxes))
    rows = matches.pairs.detections[chosen]  # ascending by IoU within a detection: the last assignment stays
    boxes[rows], ious[rows] = matches.pairs.truths[chosen], matches.pairs.ious[chosen]
    return boxes, ious


def mistake_costs(matches: Matches, mistakes: Mistakes) -> Costs:
    """Repair each kind alone, and see what it gains.

    A wrong class or place is mended by the best scored of the detections that have this about the same box, if that
    box is not found; the others of the kind, and all duplicates and background, are removed. Missed boxes are no
    longer asked for.
    """
    labels, ignored = matches.detections.labels, matches.ignored[0]
    correct = mistakes.kinds == KINDS.index("correct")
    counted = ~ignored
    boxes = matches.boxes_of_class
    mended = _mended(matches, mistakes)
    present = boxes > 0

    def ap(keep: np.ndarray, right: np.ndarray, of_class: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """``[C]`` AP50 of these detections: NaN for classes that drop out of the mean."""
        scores = _class_ap(of_class[keep], matches.detections.scores[keep], right[keep], asked)
        detected = np.bincount(of_class[keep], minlength=len(boxes)) > 0
        scores[(asked == 0) & detected] = 0
        return scores

    before = ap(counted, correct, labels, boxes)
    by_kind, of_classes, counts = {}, {}, {}
    for name in FALSE_POSITIVES:
        of_kind = mistakes.kinds == KINDS.index(name)
        repaired = of_kind & mended
        classes = labels.copy()
        classes[repaired] = matches.truth.labels[mistakes.targets[repaired]]
        after = ap((counted & ~of_kind) | repaired, correct | repaired, classes, boxes)
        by_kind[name], of_classes[name] = _gain(before, after, present)
        counts[name] = int((of_kind & counted).sum())
    unseen = np.bincount(matches.truth.labels[mistakes.missed], minlength=len(boxes))
    after = ap(counted, correct, labels, boxes - unseen)
    by_kind["missed"], of_classes["missed"] = _gain(before, after, present)
    of_classes["missed"][present & np.isnan(after)] = 1
    counts["missed"] = int(mistakes.missed.sum())

    found = np.bincount(labels[correct], minlength=len(boxes))
    ranked_first = ap(correct, correct, labels, boxes)
    return Costs(
        AP50=_mean(before[present]) if present.any() else float("nan"),
        by_kind=by_kind,
        of_classes=of_classes,
        false_positives=_mean(ranked_first[present]) - _mean(before[present]),
        false_negatives=_mean(ap(counted, correct, labels, found)[present]) - _mean(before[present]),
        counts=counts,
    )


def _mended(matches: Matches, mistakes: Mistakes) -> np.ndarray:
    """``[D]`` bool: the best scored detection with a wrong class or place of each box that is not found."""
    wrong = mistakes.kinds != KINDS.index("correct")
    is_found = np.zeros(len(matches.truth.labels), dtype=bool)
    is_found[matches.found[0][matches.correct[0]]] = True
    rows = np.flatnonzero(wrong & (mistakes.targets != NONE))
    rows = rows[~is_found[mistakes.targets[rows]]]
    _, first = np.unique(mistakes.targets[rows], return_index=True)  # rows of an image go by falling score
    mended = np.zeros(len(wrong), dtype=bool)
    mended[rows[first]] = True
    return mended


def _class_ap(labels: np.ndarray, scores: np.ndarray, correct: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    order = np.lexsort((-scores, labels))  # stable
    labels, correct = labels[order], correct[order]
    starts = np.searchsorted(labels, np.arange(len(boxes)))
    hits = np.concatenate([[0], np.cumsum(correct)])
    rows = np.flatnonzero(correct)
    first = starts[labels[rows]]
    return average_precision(labels[rows], hits[rows + 1] - hits[first], rows + 1 - first, boxes=boxes, levels=LEVELS)


def _gain(before: np.ndarray, after: np.ndarray, present: np.ndarray) -> tuple[float, np.ndarray]:
    """In the mean over classes, and ``[C]`` of each; a loss, which only binning makes, is none."""
    mean = _mean(after[present]) - _mean(before[present])
    each = np.where(present, np.maximum(np.nan_to_num(after) - before, 0), np.nan)
    return max(mean, 0.0), each


def _mean(values: np.ndarray) -> float:
    """Of those that are not NaN; 0 where there is nothing left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else 0.0
