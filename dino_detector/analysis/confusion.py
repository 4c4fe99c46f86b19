"""Confusion matrix of classes."""

from __future__ import annotations

import numpy as np

from dino_detector.analysis.matches import DetectionMatches


def confusion_matrix(matches: DetectionMatches, *, threshold: float) -> np.ndarray:
    """Return counts of truth (rows) and predictions (columns), ``[C + 1, C + 1]`` int64; the last index is background.

    The diagonal counts COCO's matches at IoU 0.50, so that it agrees with precision and recall. Unmatched detections
    and boxes of different classes then pair up by falling IoU, down to 0.50; the rest is paired with background.
    Ignored detections in crowd regions and scores below the threshold are left out.

    hotcoco's ``confusion_matrix`` and supervision's match without regard to class. hotcoco goes by score: a dog with
    score 0.9 on the box of a cat takes it from the correct cat with score 0.8, so that the cat counts as confused,
    although COCO counts a true positive. Neither ignores detections in crowd regions.
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
