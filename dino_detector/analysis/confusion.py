"""What is taken for what."""

from __future__ import annotations

import numpy as np

from dino_detector.analysis.matches import Matches


def confusion_matrix(matches: Matches, *, threshold: float) -> np.ndarray:
    """Boxes by class, detections by class: ``[C + 1, C + 1]`` int64, the last row and column for "nothing there".

    The diagonal has the boxes that are found at IoU 0.50, as COCO matches them, so it agrees with precision and recall
    (supervision's ConfusionMatrix matches by IoU alone and knows no crowds). Detections and boxes that are left over
    then pair up across classes, the largest IoU first, from 0.50 on; what is still alone stands against background.
    Detections that a crowd excuses, and those with a score below the threshold, do not exist.
    """
    detections, truth, pairs = matches.detections, matches.truth, matches.pairs
    background = len(matches.categories)
    alone = (detections.scores >= threshold) & ~matches.ignored[0]
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
