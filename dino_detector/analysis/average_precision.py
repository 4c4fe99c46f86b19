"""COCO's interpolated average precision from ranked detections."""

from __future__ import annotations

import numpy as np

RECALL_LEVELS = np.linspace(0, 1, 101)
"""as COCO computes them"""


def average_precision(
    curves: np.ndarray, hits: np.ndarray, ranks: np.ndarray, *, boxes: np.ndarray, levels: np.ndarray = RECALL_LEVELS
) -> np.ndarray:
    """Return the average precision of S curves, ``[S]``; NaN for a curve without boxes.

    It is the mean over recall levels of the best precision at that recall or above. Precision peaks at true positives,
    so that they suffice.

    Args:
        curves: ``[N]`` curve of each true positive, ascending; scores fall within a curve.
        hits: ``[N]`` number of true positives of the curve down to this one.
        ranks: ``[N]`` number of detections of the curve down to this one.
        boxes: ``[S]`` number of boxes to find.
        levels: ``[R]`` recall levels, ascending from 0.
    """
    precision = np.divide(hits, ranks, out=np.zeros(len(hits)), where=ranks > 0)
    recall = np.divide(hits, boxes[curves], out=np.zeros(len(hits)), where=boxes[curves] > 0)
    # One running maximum from the end serves all curves: earlier curves are lifted above later ones.
    lift = 2.0 * (len(boxes) - curves)
    best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
    reached = np.searchsorted(levels, recall, side="right")  # [N] levels at this recall or below
    is_first = np.append(True, curves[1:] != curves[:-1])[: len(curves)]
    new = np.where(is_first, reached, np.diff(reached, prepend=0))
    total = np.bincount(curves, weights=best * new, minlength=len(boxes))
    return np.where(boxes > 0, total / len(levels), np.nan)
