"""Comparison of two runs on the same images: an interval for the difference of AP, and better and worse images.

Efron, Tibshirani: An Introduction to the Bootstrap. 1993. A paired bootstrap: images are drawn with replacement, and
both runs are scored on the same draw, so images that are hard for both cancel out.

hotcoco's ``compare`` counts an image once even if it is drawn several times, so its intervals are too narrow: with 40
images of one box, where one run finds all and the other half, it gives 0.5 +- 0.12 instead of 0.5 +- 0.155 (binomial).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dino_detector.analysis.matches import IOU_THRESHOLDS, DetectionMatches, average_precision
from dino_detector.analysis.mistakes import image_mistakes

LEVEL = 0.95
RESAMPLES = (100, 1000)
"""fewest and most"""
WORK = 1.5e9
"""detections and matches that all resamples count together: about half a minute"""
SEED = 0


def resampled_ap(matches: DetectionMatches) -> Callable[[np.ndarray], float]:
    """Return a function that computes COCO's AP with each image counted ``weights`` ``[I]`` times, NaN without a box.

    It is much cheaper than an evaluation: the matches of an image do not depend on other images, so a draw changes only
    how often its detections and boxes count.
    """
    detections, truth, classes = matches.detections, matches.truth, len(matches.categories)
    order = np.lexsort((-detections.scores, detections.labels))  # stable: equal scores by image, as in COCO
    labels, images = detections.labels[order], detections.images[order].astype(np.int32)
    thresholds, hits = np.nonzero(matches.correct[:, order])  # by threshold, class and descending score
    first = np.searchsorted(labels, labels[hits])
    curves = thresholds * classes + labels[hits]
    curve_starts = np.searchsorted(curves, curves)
    ignored_thresholds, ignored = np.nonzero(matches.ignored[:, order])
    size = len(labels) + 1
    keys = ignored_thresholds * size + ignored
    ignored_from, ignored_to = (np.searchsorted(keys, thresholds * size + rows) for rows in (first, hits))

    def ap(weights: np.ndarray) -> float:
        ranks, without, found = (
            np.concatenate([[0], np.cumsum(weights[rows])]) for rows in (images, images[ignored], images[hits])
        )
        boxes = np.bincount(truth.labels, weights=weights[truth.images], minlength=classes)
        scores = average_precision(
            curves,
            found[1:] - found[curve_starts],
            ranks[hits + 1] - ranks[first] - without[ignored_to] + without[ignored_from],
            boxes=np.tile(boxes, len(IOU_THRESHOLDS)),
        )
        known = scores[~np.isnan(scores)]
        return float(known.mean()) if len(known) else float("nan")

    return ap


def bootstrap(matches: DetectionMatches, baseline: DetectionMatches) -> dict[str, float] | None:
    """Return the difference of AP, run minus baseline, with its percentile interval; None without ground truth.

    Both runs have the same images and ground truth. Draws without ground truth are left out. The number of
    resamples is what takes about half a minute, within `RESAMPLES`. The same runs give the same interval.
    """
    runs = (matches, baseline)
    work = sum(len(run.detections.scores) + np.count_nonzero(run.correct) for run in runs)
    resamples = int(np.clip(WORK // max(work, 1), *RESAMPLES))
    size = len(matches.image_ids)
    if not len(matches.truth.labels):
        return None
    ap, base_ap = map(resampled_ap, runs)
    everything = np.ones(size, dtype=np.int64)
    difference = ap(everything) - base_ap(everything)
    chance = np.random.default_rng(SEED)
    draws = (np.bincount(chance.integers(size, size=size), minlength=size) for _ in range(resamples))
    differences = np.array([ap(weights) - base_ap(weights) for weights in draws])
    outside = (1 - LEVEL) / 2
    kept = differences[~np.isnan(differences)]
    low, high = np.quantile(kept, [outside, 1 - outside]) if len(kept) else (difference, difference)
    interval = {"difference": difference, "low": float(low), "high": float(high)}
    return {"resamples": resamples, **interval, "level": LEVEL}


def flipped_images(
    matches: DetectionMatches, baseline: DetectionMatches, *, threshold: float, baseline_threshold: float
) -> dict[str, list[dict[str, Any]]]:
    """Return images without mistakes in the run alone, ``gained``, or in the baseline alone, ``lost``.

    Each run counts at its own threshold (`image_mistakes`). Images with most mistakes come first.
    """
    now = image_mistakes(matches, threshold=threshold).counts
    before = image_mistakes(baseline, threshold=baseline_threshold).counts

    def listed(chosen: np.ndarray) -> list[dict[str, Any]]:
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-(now + before)[rows], kind="stable")]  # one of the two is 0
        columns = (matches.image_ids[rows].tolist(), before[rows].tolist(), now[rows].tolist())
        return [
            dict(zip(("id", "baseline_mistakes", "mistakes"), row, strict=True)) for row in zip(*columns, strict=True)
        ]

    return {"gained": listed((now == 0) & (before > 0)), "lost": listed((now > 0) & (before == 0))}
