"""Scores: their histogram, their calibration, and the threshold with the best F1 at IoU 0.50."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.analysis.matches import DetectionMatches

if TYPE_CHECKING:
    from hotcoco import COCOeval

SCORE_EDGES = np.arange(21) / 20
"""edges of the steps of a histogram; a score at the edge of two steps counts in the upper one"""
DEFAULT_THRESHOLD = 0.5
"""overall threshold without a true positive, when all thresholds are equally good"""
DECIMALS = range(2, 7)


class Threshold(NamedTuple):
    """A score threshold, and the F1, precision and recall of the detections with at least this score."""

    threshold: float | None  # None without a true positive
    F1: float
    precision: float | None  # None without detections
    recall: float


def calibration(evaluator: COCOeval) -> dict[str, Any]:
    """Compare scores with precision at IoU 0.50 in ten bins of equal width.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017, arXiv:1706.04599; for detectors
    Küppers, Kronenberger, Shantia, Haselhoff: Multivariate Confidence Calibration for Object Detection. 2020,
    arXiv:2004.13546. A duplicate is wrong, and ignored detections in crowd regions do not count. All scores take part,
    so the many low ones weigh heavily in the error.

    Args:
        evaluator: hotcoco's, after ``evaluate``.

    Returns:
        ``error``, the expected calibration error, or None without detections; and ``bins``, each with ``low`` <= score
        < ``high`` (the last with score 1), ``count``, and mean ``score`` and ``precision``, or None for an empty bin.
    """
    measured = evaluator.calibration()
    keys = {"low": "bin_lower", "high": "bin_upper", "count": "count", "score": "avg_confidence"}
    keys["precision"] = "avg_accuracy"
    bins = [{name: item[key] for name, key in keys.items()} for item in measured["bins"]]
    empty = {"score": None, "precision": None}
    return {
        "error": measured["ece"] if measured["num_detections"] else None,
        "bins": [row if row["count"] else row | empty for row in bins],
    }


def class_thresholds(matches: DetectionMatches) -> list[Threshold | None]:
    """Return the best threshold of each class; None for a class without ground truth."""
    scores, correct, counted = matches.detections.scores, matches.correct[0], matches.counted
    thresholds = []
    for label, boxes in enumerate(matches.boxes_of_class):
        own = counted & (matches.detections.labels == label)
        thresholds.append(best_threshold(scores[own], correct[own], boxes=int(boxes)) if boxes else None)
    return thresholds


def overall_threshold(matches: DetectionMatches) -> float:
    """Return the threshold with the best F1 of the detections and boxes of all classes together."""
    scores, correct = matches.detections.scores[matches.counted], matches.correct[0][matches.counted]
    threshold = best_threshold(scores, correct, boxes=len(matches.truth.labels)).threshold
    return DEFAULT_THRESHOLD if threshold is None else threshold


def best_threshold(scores: np.ndarray, correct: np.ndarray, *, boxes: int) -> Threshold:
    """Return the threshold with the largest F1, the higher of equals, with the fewest decimals that keep the result.

    ``scores`` ``[N]`` belong to true and false positives; ``correct`` ``[N]`` marks the true ones among them.
    ``boxes`` is the number of boxes to find.
    """
    if not correct.any():
        return Threshold(None, 0.0, 0.0 if len(scores) else None, 0.0)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # a threshold keeps all equal scores
    hits = np.cumsum(correct[order])[last]
    kept = last + 1
    f1 = 2 * hits / (kept + boxes)
    best = int(np.argmax(f1))  # the first, and so the higher score
    score = float(scores[last[best]])
    below = float(scores[last[best + 1]]) if best + 1 < len(last) else -math.inf
    shorter = (float(Decimal(str(score)).quantize(Decimal(1).scaleb(-places), ROUND_FLOOR)) for places in DECIMALS)
    threshold = next((number for number in shorter if number > below), score)
    return Threshold(threshold, float(f1[best]), float(hits[best] / kept[best]), float(hits[best] / boxes))
