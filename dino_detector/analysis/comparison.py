"""Comparison of two runs on the same images: the interval of the difference of AP, and images that changed sides.

Efron, Tibshirani: An Introduction to the Bootstrap. 1993. A paired bootstrap: images are drawn with replacement, and
both runs are scored on the same draw, so that images that are hard for both cancel out.

hotcoco's ``compare`` counts an image once however often it is drawn, so that its intervals are too narrow. Of 40 images
with one box each, where one run finds all and the other half, the 95 % interval is 0.5 +- 0.155 (binomial), and
hotcoco's is 0.5 +- 0.12.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.analysis.average_precision import average_precision
from dino_detector.analysis.gallery import image_mistakes
from dino_detector.analysis.matches import IOU_THRESHOLDS, DetectionMatches

LEVEL = 0.95
RESAMPLES = (100, 1000)
"""fewest and most"""
WORK = 1.5e9
"""detections and matches that all resamples count together: about half a minute"""
SEED = 0


class ResampledAP:
    """AP of a run on drawn images, much cheaper than an evaluation.

    The matches of an image do not depend on other images: a draw changes only how often its detections and boxes count.
    """

    def __init__(self, matches: DetectionMatches) -> None:
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
        """Number of values that a draw reads."""
        return len(self.images) + len(self.hits)

    def on(self, weights: np.ndarray) -> float:
        """Return COCO's AP with each image counted ``weights`` ``[I]`` times; NaN if the draw has no box."""
        ranks, ignored, hits = (
            np.concatenate([[0], np.cumsum(weights[images])])
            for images in (self.images, self.images[self.ignored], self.images[self.hits])
        )
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
    """The difference of AP, run minus baseline, and the ends of its interval with this confidence ``level``."""

    resamples: int
    difference: float
    low: float
    high: float
    level: float


class FlippedImage(NamedTuple):
    """An image without mistakes in one of two runs."""

    id: int
    baseline_mistakes: int
    mistakes: int


class FlippedImages(NamedTuple):
    """Images without mistakes in the run alone (gained) or in the baseline alone (lost), by falling mistakes."""

    gained: list[FlippedImage]
    lost: list[FlippedImage]


def bootstrap(
    matches: DetectionMatches, baseline: DetectionMatches, *, resamples: int | None = None
) -> Bootstrap | None:
    """Return the percentile interval of the difference of AP of two runs; None without ground truth.

    Draws without ground truth are left out. The same runs give the same interval.

    Args:
        matches: of the run.
        baseline: of the other run, on the same images and ground truth.
        resamples: if None, 1,000, or as many as take about half a minute, but at least 100.
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
    matches: DetectionMatches, baseline: DetectionMatches, *, threshold: float, baseline_threshold: float
) -> FlippedImages:
    """Return images with mistakes (`ImageMistakes.counts`) in one run alone, each run at its own threshold."""
    now = image_mistakes(matches, threshold=threshold).counts
    before = image_mistakes(baseline, threshold=baseline_threshold).counts

    def listed(chosen: np.ndarray) -> list[FlippedImage]:
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-(now + before)[rows], kind="stable")]  # one of the two is 0
        return [FlippedImage(int(matches.image_ids[row]), int(before[row]), int(now[row])) for row in rows]

    return FlippedImages(gained=listed((now == 0) & (before > 0)), lost=listed((now > 0) & (before == 0)))
