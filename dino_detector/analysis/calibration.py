"""Whether a score is the probability of being right.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017, arXiv:1706.04599; for detectors
Küppers, Kronenberger, Shantia, Haselhoff: Multivariate Confidence Calibration for Object Detection. 2020,
arXiv:2004.13546. A detection is right if it finds a box at IoU 0.50; a duplicate is wrong. Detections that a crowd
excuses are left out. All scores take part, so the many low ones weigh heavily in the error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.analysis.matches import DetectionMatches

BINS = 10


class ScoreBin(NamedTuple):
    """Detections with ``low <= score < high``, the last bin with 1 itself; mean score and precision, None if empty."""

    low: float
    high: float
    count: int
    score: float | None
    precision: float | None


class Calibration(NamedTuple):
    """The bins, and their mean difference of score and precision, by how many detections they have; None of none."""

    error: float | None
    bins: list[ScoreBin]


def calibration(matches: DetectionMatches) -> Calibration:
    """Compare scores with precision at IoU 0.50 in ten bins of equal width."""
    counted = matches.counted
    scores, correct = matches.detections.scores[counted], matches.correct[0][counted]
    edges = np.arange(BINS + 1) / BINS
    bins = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    score_sums, hits = (np.bincount(bins, weights=column, minlength=BINS) for column in (scores, correct))
    rows = [
        ScoreBin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            count=int(count),
            score=float(score_sums[number] / count) if count else None,
            precision=float(hits[number] / count) if count else None,
        )
        for number, count in enumerate(counts)
    ]
    error = float(np.abs(score_sums - hits).sum() / len(scores)) if len(scores) else None
    return Calibration(error, rows)
