"""The score threshold with the best F1 at IoU 0.50."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dino_detector.analysis.matches import DetectionMatches

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
