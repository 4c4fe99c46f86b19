"""Kinds of mistakes, the AP50 that each kind costs, the mistakes of an image, and the confusion matrix.

Kinds and costs follow Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors.
ECCV 2020, arXiv:2008.08115. The authors' package ``tidecv`` (1.0.1) gives the same costs, with three exceptions:

- Every mean leaves out classes without ground truth, as COCO does. tidecv counts their AP50 as 0, so a repair
  seems to gain AP50 when it removes all detections of such a class.
- 100 detections of an image and class take part, as in COCO. In tidecv, 100 detections of an image take part.
- Equal scores keep the order of images and rows. In tidecv the order depends on the kind of mistake.

As in tidecv, a repair may turn an ignored detection in a crowd region into a true positive, although the detection is
no false positive and is not counted. If no box of a class is found and the misses are repaired, the class has nothing
left to find: it keeps its AP50 of 0 if it has detections, and otherwise leaves the mean.

hotcoco's ``tide_errors`` gives other costs: without any detection, a missed dog costs nothing there, and 0.5 of AP50
in tidecv.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.analysis.matches import NONE, DetectionMatches, average_precision

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
FALSE_POSITIVES = ("classification", "localisation", "both", "duplicate", "background")
"""kinds of false positives; the sixth kind, "missed", is a kind of box"""
KINDS = ("correct", *FALSE_POSITIVES)
LEVELS = np.arange(101) / 100
"""tidecv's recall levels: some differ from COCO's in the last bit, and a recall may lie between the two"""


class Mistakes(NamedTuple):
    """The kind of each detection at IoU 0.50, and the missed boxes. Of equal IoUs, the later box counts.

    A kind depends on the boxes and on higher scores of the same image and class alone, so it holds at every score
    threshold. A box is missed if no detection would find it even with its class or its place repaired.
    """

    kinds: np.ndarray  # [D] index into KINDS, also of ignored detections
    targets: np.ndarray  # [D] box of a true positive, and of a false positive with a wrong class or place; else -1
    ious: np.ndarray  # [D] IoU with the target, for a duplicate with the found box, else the largest with any box
    missed: np.ndarray  # [G] bool


class Costs(NamedTuple):
    """AP50, and the AP50 that would be gained by a repair of one kind of mistake; the gains do not add up."""

    AP50: float  # mean over classes with ground truth; NaN without such classes
    by_kind: dict[str, float]  # gain for each of FALSE_POSITIVES and "missed", at least 0
    of_classes: dict[str, np.ndarray]  # [C] gain of each class; NaN for a class without ground truth
    false_positives: float  # gain with every false positive ranked below the true positives
    false_negatives: float  # gain without the boxes that are not found
    counts: dict[str, int]  # number of mistakes of each kind, without ignored detections


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
    labels, scores, boxes = matches.detections.labels, matches.detections.scores, matches.boxes_of_class
    correct, counted, targets = mistakes.kinds == KINDS.index("correct"), matches.counted, mistakes.targets
    present = boxes > 0

    def ap(
        keep: np.ndarray, hits: np.ndarray = correct, classes: np.ndarray = labels, boxes: np.ndarray = boxes
    ) -> np.ndarray:
        """Return the AP50 of each class, ``[C]``; NaN for a class that leaves the mean."""
        rows = np.flatnonzero(keep)
        rows = rows[np.lexsort((-scores[rows], classes[rows]))]  # stable
        kept, is_hit = classes[rows], hits[rows]
        total = np.concatenate([[0], np.cumsum(is_hit)])
        hit = np.flatnonzero(is_hit)
        first, curves = np.searchsorted(kept, kept[hit]), kept[hit]
        values = average_precision(curves, total[hit + 1] - total[first], hit + 1 - first, boxes=boxes, levels=LEVELS)
        values[(boxes == 0) & np.isin(np.arange(len(boxes)), kept)] = 0
        return values

    def mean(values: np.ndarray) -> float:
        known = values[present & ~np.isnan(values)]
        return float(known.mean()) if len(known) else 0.0

    repairable = np.zeros(len(labels), dtype=bool)
    rows = np.flatnonzero(~correct & (targets != NONE))
    rows = rows[np.isnan(matches.found_scores())[targets[rows]]]
    repairable[rows[np.unique(targets[rows], return_index=True)[1]]] = True  # scores fall within an image
    after, counts = {}, {}
    for name in FALSE_POSITIVES:
        of_kind = mistakes.kinds == KINDS.index(name)
        repaired = of_kind & repairable
        classes = labels.copy()
        classes[repaired] = matches.truth.labels[targets[repaired]]
        after[name] = ap((counted & ~of_kind) | repaired, correct | repaired, classes)
        counts[name] = int((of_kind & counted).sum())
    missed = np.bincount(matches.truth.labels[mistakes.missed], minlength=len(boxes))
    after["missed"] = ap(counted, boxes=boxes - missed)
    counts["missed"] = int(mistakes.missed.sum())

    before, found = ap(counted), np.bincount(labels[correct], minlength=len(boxes))
    base = mean(before)
    # Rounding to recall levels can turn a repair into a loss, which counts as 0.
    of_classes = {
        name: np.where(present, np.maximum(np.nan_to_num(values) - before, 0), np.nan) for name, values in after.items()
    }
    of_classes["missed"][present & np.isnan(after["missed"])] = 1
    return Costs(
        AP50=base if present.any() else float("nan"),
        by_kind={name: max(mean(values) - base, 0.0) for name, values in after.items()},
        of_classes=of_classes,
        false_positives=mean(ap(correct)) - base,
        false_negatives=mean(ap(counted, boxes=found)) - base,
        counts=counts,
    )


class ImageMistakes(NamedTuple):
    """Mistakes of each image at IoU 0.50 and a score threshold; ignored detections are none."""

    counts: np.ndarray  # [I] number of missed boxes and false positives
    costs: np.ndarray  # [I] number of missed boxes, plus the scores of the false positives


def image_mistakes(matches: DetectionMatches, *, threshold: float) -> ImageMistakes:
    """Count the mistakes of every image among detections with at least this score."""
    detections, images = matches.detections, len(matches.image_ids)
    wrong = (detections.scores >= threshold) & ~matches.correct[0] & matches.counted
    is_missed = ~(matches.found_scores() >= threshold)  # true for NaN, too
    missed = np.bincount(matches.truth.images[is_missed], minlength=images)
    false = np.bincount(detections.images[wrong], minlength=images)
    costs = missed + np.bincount(detections.images[wrong], weights=detections.scores[wrong], minlength=images)
    return ImageMistakes(missed + false, costs)


def confusion_matrix(matches: DetectionMatches, *, threshold: float) -> np.ndarray:
    """Return counts of truth (rows) and predictions (columns), ``[C + 1, C + 1]`` int64; the last index is background.

    The diagonal counts COCO's matches at IoU 0.50, so it agrees with precision and recall. Unmatched detections
    and boxes of different classes then pair up by descending IoU, down to 0.50; the rest is paired with background.
    Ignored detections in crowd regions and scores below the threshold are left out.

    hotcoco's ``confusion_matrix`` and supervision's match without regard to class: a dog with score 0.9 on the box of a
    cat takes it from the correct cat with score 0.8. Neither ignores detections in crowd regions.
    """
    detections, truth, pairs = matches.detections, matches.truth, matches.pairs
    background = len(matches.categories)
    alone = (detections.scores >= threshold) & matches.counted
    correct = alone & matches.correct[0]
    free = np.ones(len(truth.labels), dtype=bool)
    counts = np.zeros((background + 1, background + 1), dtype=np.int64)

    found = matches.found[0][correct]
    np.add.at(counts, (truth.labels[found], detections.labels[correct]), 1)
    free[found] = False
    alone &= ~correct

    candidates = np.flatnonzero((pairs.ious >= 0.5) & alone[pairs.detections] & free[pairs.truths] & ~pairs.same_class)
    for pair in candidates[np.argsort(-pairs.ious[candidates], kind="stable")]:
        row, box = pairs.detections[pair], pairs.truths[pair]
        if alone[row] and free[box]:
            counts[truth.labels[box], detections.labels[row]] += 1
            alone[row] = free[box] = False
    counts[:background, background] += np.bincount(truth.labels[free], minlength=background)
    counts[background, :background] += np.bincount(detections.labels[alone], minlength=background)
    return counts
