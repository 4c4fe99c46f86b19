"""The score threshold that makes the best of precision and recall at IoU 0.50."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dino_detector.analysis.matches import Matches

DEFAULT_THRESHOLD = 0.5
"""where no detection is right, so that no threshold is better than another"""
DECIMALS = range(2, 7)


class Threshold(NamedTuple):
    """A score that detections must reach (>=), and what is left then.

    Attributes:
        score: None if no detection is right.
        F1: 2 / (1 / precision + 1 / recall).
        precision: None if there are no detections.
        recall: fraction of the boxes that are found.
    """

    score: float | None
    F1: float
    precision: float | None
    recall: float


def class_thresholds(matches: Matches) -> list[Threshold | None]:
    """The best threshold of each class; None for a class without ground truth."""
    detections, boxes = matches.detections, matches.boxes_of_class
    counted = ~matches.ignored[0]
    rows = np.flatnonzero(counted)
    rows = rows[np.argsort(detections.labels[rows], kind="stable")]
    ends = np.searchsorted(detections.labels[rows], np.arange(len(boxes) + 1))
    return [
        best_threshold(detections.scores[own], matches.correct[0][own], boxes=int(number)) if number else None
        for own, number in zip(np.split(rows, ends[1:-1]), boxes, strict=True)
    ]


def overall_threshold(matches: Matches) -> float:
    """One threshold for all classes, which maximises F1 of all detections and boxes together."""
    counted = ~matches.ignored[0]
    scores, correct = matches.detections.scores[counted], matches.correct[0][counted]
    score = best_threshold(scores, correct, boxes=len(matches.truth.labels)).score
    return DEFAULT_THRESHOLD if score is None else score


def best_threshold(scores: np.ndarray, correct: np.ndarray, *, boxes: int) -> Threshold:
    """The threshold of the largest F1, the higher one of two equals, with as few decimals as change nothing.

    Args:
        scores: ``[N]`` of detections that count as right or wrong.
        correct: ``[N]`` bool, finds a box.
        boxes: how many boxes there are to find.
    """
    if not correct.any():
        return Threshold(None, 0.0, 0.0 if len(scores) else None, 0.0)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of equal scores, all are kept or none
    hits = np.cumsum(correct[order])[last]
    kept = last + 1
    f1 = 2 * hits / (kept + boxes)
    best = int(np.argmax(f1))  # the first, so the higher score
    below = scores[last[best + 1]] if best + 1 < len(last) else -math.inf
    score = _shortest(float(scores[last[best]]), above=float(below))
    return Threshold(score, float(f1[best]), float(hits[best] / kept[best]), float(hits[best] / boxes))


def _shortest(score: float, *, above: float) -> float:
    """A number of few decimals that is at most ``score`` and above another: the same detections reach it."""
    for decimals in DECIMALS:
        number = round(score, decimals)
        if number > score:
            number = round(number - 10**-decimals, decimals)
        if above < number <= score:
            return number
    return score
