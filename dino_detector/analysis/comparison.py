"""One run against another on the same images: is the difference of AP more than chance, and which images flipped?

Efron, Tibshirani: An Introduction to the Bootstrap. 1993. Images are drawn with replacement, as many as there are, and
both runs are scored on the same draw: what is hard for both cancels out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.analysis.average_precision import average_precision
from dino_detector.analysis.gallery import image_mistakes
from dino_detector.analysis.matches import IOU_THRESHOLDS, Matches

LEVEL = 0.95
RESAMPLES = (100, 1000)
"""fewest and most"""
WORK = 1.5e9
"""detections and matches that all resamples may count together: about half a minute"""
SEED = 0


class ResampledAP:
    """AP of a run on images drawn at random, at a small part of the cost of an evaluation.

    Who finds whom does not depend on other images, so a draw only changes how often each detection and each box counts.
    """

    def __init__(self, matches: Matches) -> None:
        detections, self.truth = matches.detections, matches.truth
        self.classes = len(matches.categories)
        order = np.lexsort((-detections.scores, detections.labels))  # stable: equal scores by image, as in COCO
        labels = detections.labels[order]
        self.images = detections.images[order].astype(np.int32)
        starts = np.searchsorted(labels, np.arange(self.classes))
        thresholds, self.hits = np.nonzero(matches.correct[:, order])  # by threshold, class and falling score
        self.first = starts[labels[self.hits]]
        self.curves = thresholds * self.classes + labels[self.hits]
        self.curve_starts = np.searchsorted(self.curves, self.curves)
        ignored_thresholds, self.ignored = np.nonzero(matches.ignored[:, order])
        size = len(labels) + 1
        keys = ignored_thresholds * size + self.ignored
        self.ignored_from, self.ignored_to = (
            np.searchsorted(keys, thresholds * size + rows) for rows in (self.first, self.hits)
        )

    @property
    def work(self) -> int:
        """How many numbers a draw goes through."""
        return len(self.images) + len(self.hits)

    def on(self, weights: np.ndarray) -> float:
        """COCO's AP with each image counted ``weights`` ``[I]`` times; NaN if no box is among them."""
        ranks = _running_sum(weights[self.images])
        ignored = _running_sum(weights[self.images[self.ignored]])
        hits = _running_sum(weights[self.images[self.hits]])
        boxes = np.bincount(self.truth.labels, weights=weights[self.truth.images], minlength=self.classes)
        scores = average_precision(
            self.curves,
            hits[1:] - hits[self.curve_starts],
            ranks[self.hits + 1] - ranks[self.first] - ignored[self.ignored_to] + ignored[self.ignored_from],
            boxes=np.tile(boxes, len(IOU_THRESHOLDS)),
        )
        known = scores[~np.isnan(scores)]
        return float(known.mean()) if len(known) else float("nan")


class Bootstrap(NamedTuple):
    """The difference of AP, run minus baseline, and where it lies in the middle ``level`` of the resamples."""

    resamples: int
    difference: float
    low: float
    high: float
    level: float


class FlippedImage(NamedTuple):
    """An image that one run gets right and the other does not."""

    image_id: int
    baseline_mistakes: int
    mistakes: int


class FlippedImages(NamedTuple):
    """Images without a mistake in the run alone, or in the baseline alone; those with the most mistakes first."""

    gained: list[FlippedImage]
    lost: list[FlippedImage]


def bootstrap(matches: Matches, baseline: Matches, *, resamples: int | None = None) -> Bootstrap | None:
    """The percentile interval of the difference of AP of two runs on the same images and ground truth.

    Draws without ground truth are left out. The same runs give the same interval.

    Args:
        matches: of the run.
        baseline: of the other.
        resamples: 1,000 if None, or as many as take about half a minute, but 100 at least.

    Returns:
        None if there is no ground truth.
    """
    assert np.array_equal(matches.image_ids, baseline.image_ids)
    runs = (ResampledAP(matches), ResampledAP(baseline))
    if resamples is None:
        resamples = int(np.clip(WORK // max(sum(run.work for run in runs), 1), *RESAMPLES))
    size = len(matches.image_ids)
    if not len(matches.truth.labels):
        return None
    value, base = (run.on(np.ones(size, dtype=np.int64)) for run in runs)
    chance = np.random.default_rng(SEED)
    differences = np.empty(resamples)
    for number in range(resamples):
        weights = np.bincount(chance.integers(size, size=size), minlength=size)
        differences[number] = runs[0].on(weights) - runs[1].on(weights)
    outside = (1 - LEVEL) / 2
    kept = differences[~np.isnan(differences)]
    low, high = np.quantile(kept, [outside, 1 - outside]) if len(kept) else (value - base, value - base)
    return Bootstrap(resamples, value - base, float(low), float(high), LEVEL)


def flipped_images(
    matches: Matches, baseline: Matches, *, threshold: float, baseline_threshold: float
) -> FlippedImages:
    """Images with mistakes (`ImageMistakes.counts`) in one run and none in the other, each at its own threshold."""
    now = image_mistakes(matches, threshold=threshold).counts
    before = image_mistakes(baseline, threshold=baseline_threshold).counts

    def listed(chosen: np.ndarray) -> list[FlippedImage]:
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-(now + before)[rows], kind="stable")]  # one of the two is 0
        return [FlippedImage(int(matches.image_ids[row]), int(before[row]), int(now[row])) for row in rows]

    return FlippedImages(gained=listed((now == 0) & (before > 0)), lost=listed((now > 0) & (before == 0)))


def _running_sum(values: np.ndarray) -> np.ndarray:
    """``[N + 1]``, from 0."""
    return np.concatenate([[0], np.cumsum(values)])
