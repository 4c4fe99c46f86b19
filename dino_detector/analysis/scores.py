"""Scores: their histogram, their calibration, and the threshold with the best F1 at IoU 0.50."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.analysis.matches import DetectionMatches

if TYPE_CHECKING:
    from hotcoco import COCOeval

SCORE_EDGES = np.arange(21) / 20
DEFAULT_THRESHOLD = 0.5
"""overall threshold without a true positive, when all thresholds are equally good"""
DECIMALS = range(2, 7)


class Threshold(NamedTuple):
    """A score threshold, and what detections at or above it reach.

    Attributes:
        score: None without a true positive.
        F1: 2 / (1 / precision + 1 / recall).
        precision: None without detections.
        recall: part of the boxes that is found.
    """

    score: float | None
    F1: float
    precision: float | None
    recall: float


def score_counts(scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of scores in each of 20 steps, ``[20]``, and the edges of the steps, ``[21]``.

    A score at the edge of two steps counts in the upper one.
    """
    return np.histogram(scores, bins=SCORE_EDGES)


def calibration(evaluator: COCOeval) -> dict[str, Any]:
    """Compare scores with precision at IoU 0.50 in ten bins of equal width.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017, arXiv:1706.04599; for detectors
    Küppers, Kronenberger, Shantia, Haselhoff: Multivariate Confidence Calibration for Object Detection. 2020,
    arXiv:2004.13546. A duplicate is wrong, and ignored detections in crowd regions do not count. All scores take part,
    so that the many low ones weigh heavily in the error.

    Args:
        evaluator: hotcoco's, after ``evaluate``.

    Returns:
        ``error``, the expected calibration error, or None without detections; and ``bins``, each with ``low`` <= score
        < ``high`` (the last with score 1), ``count``, and mean ``score`` and ``precision``, or None for an empty bin.
    """
    measured = evaluator.calibration()

    def row(item: dict[str, Any]) -> dict[str, Any]:
        score, precision = (item["avg_confidence"], item["avg_accuracy"]) if item["count"] else (None, None)
        ends = {"low": item["bin_lower"], "high": item["bin_upper"]}
        return {**ends, "count": item["count"], "score": score, "precision": precision}

    error = measured["ece"] if measured["num_detections"] else None
    return {"error": error, "bins": [row(item) for item in measured["bins"]]}


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
    score = best_threshold(scores, correct, boxes=len(matches.truth.labels)).score
    return DEFAULT_THRESHOLD if score is None else score


def best_threshold(scores: np.ndarray, correct: np.ndarray, *, boxes: int) -> Threshold:
    """Return the threshold with the largest F1, the higher of equals, with the fewest decimals that keep the result.

    Args:
        scores: ``[N]`` of true and false positives.
        correct: ``[N]`` bool, true positive.
        boxes: number of boxes to find.
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
    below = scores[last[best + 1]] if best + 1 < len(last) else -math.inf
    score = _shortest(float(scores[last[best]]), above=float(below))
    return Threshold(score, float(f1[best]), float(hits[best] / kept[best]), float(hits[best] / boxes))


def _shortest(score: float, *, above: float) -> float:
    """Return a number with few decimals, at most ``score`` and above the next lower score."""
    for decimals in DECIMALS:
        number = round(score, decimals)
        if number > score:
            number = round(number - 10**-decimals, decimals)
        if above < number <= score:
            return number
    return score
