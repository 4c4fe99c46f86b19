"""Images with more objects of a class than the metrics count detections."""

from __future__ import annotations

import logging

import numpy as np

from dino_detector.config import MAX_DETECTIONS
from dino_detector.data.coco.annotations import CocoAnnotations

log = logging.getLogger(__name__)


def warn_of_limit(annotations: CocoAnnotations, max_detections: int, *, found: int | None = None) -> None:
    """Warn of a limit above the number of object queries, and of images with more objects of a class than the limit.

    Args:
        annotations: the ground truth.
        max_detections: number of detections per image and class that the metrics count.
        found: largest number of detections that the detector gives for an image; None if unknown.
    """
    if found is not None and max_detections > max(found, MAX_DETECTIONS):
        log.warning(
            "--max_detections %d has the effect of %d: the detector finds no more in an image; train it with "
            "--num_queries %d",
            max_detections,
            found,
            max_detections,
        )
    _warn_of_crowded_images(annotations, max_detections, found=found)


def _warn_of_crowded_images(annotations: CocoAnnotations, max_detections: int, *, found: int | None) -> None:
    """Warn of images with more objects of a class than counted detections, which keep AP below 1."""
    entries = annotations.entries
    single = ~entries.is_crowd
    pairs = entries.image_indices[single] * len(annotations.categories) + entries.labels[single]
    groups, counts = np.unique(pairs, return_counts=True)
    crowded = np.unique(groups[counts > max_detections] // max(1, len(annotations.categories)))
    if len(crowded):
        most = counts.max()
        more = f", for a detector of --num_queries {most} or more" if found is not None and found < most else ""
        log.warning(
            "%s: %d of %d images have more than %d objects of a class, up to %d, and metrics count %d detections of an "
            "image and class%s, so AP can't reach 1; --max_detections %d counts all%s",
            *(annotations.path, len(crowded), len(annotations.images), max_detections, most, max_detections),
            *(" as COCO does" if max_detections == MAX_DETECTIONS else "", most, more),
        )
