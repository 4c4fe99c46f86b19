"""Average precision from detections in order, as COCO interpolates it."""

from __future__ import annotations

import numpy as np

RECALL_LEVELS = np.linspace(0, 1, 101)
"""as COCO computes them"""


def average_precision(
    curves: np.ndarray, hits: np.ndarray, ranks: np.ndarray, *, boxes: np.ndarray, levels: np.ndarray = RECALL_LEVELS
) -> np.ndarray:
    """Average precision of S curves, ``[S]``; NaN where a curve has no boxes.

    It is the mean over the recall levels of the best precision at that recall or above. Only correct detections are
    given: precision peaks there.

    Args:
        curves: ``[N]`` the curve that a correct detection belongs to, ascending, by falling score within a curve.
        hits: ``[N]`` how many detections of the curve are correct up to and with this one.
        ranks: ``[N]`` how many detections of the curve there are up to and with this one.
        boxes: ``[S]`` how many boxes there are to find.
        levels: ``[R]`` recalls, ascending from 0.
    """
    precision = np.divide(hits, ranks, out=np.zeros(len(hits)), where=ranks > 0)
    recall = np.divide(hits, boxes[curves], out=np.zeros(len(hits)), where=boxes[curves] > 0)
    # The running maximum from the end. Later curves are lifted less, so no curve sees the one after it.
    lift = 2.0 * (len(boxes) - curves)
    best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
    reached = np.searchsorted(levels, recall, side="right")  # [N] levels at this recall or below
    is_first = np.ones(len(curves), dtype=bool)
    is_first[1:] = curves[1:] != curves[:-1]
    new = np.diff(reached, prepend=0)
    new[is_first] = reached[is_first]
    total = np.bincount(curves, weights=best * new, minlength=len(boxes))
    return np.where(boxes > 0, total / len(levels), np.nan)
