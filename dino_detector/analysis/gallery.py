"""The images with the worst mistakes, with the boxes that a page draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.mistakes import KINDS, Mistakes
from dino_detector.plain_text import relative_name

if TYPE_CHECKING:
    from dino_detector.data.coco.annotations import CocoAnnotations

LOWEST_SCORE = 0.05
"""lowest score of a drawn detection, unless the threshold is lower"""
MOST_DETECTIONS = 100
"""number of drawn detections of an image, by falling score"""


class ImageMistakes(NamedTuple):
    """Mistakes of each image at IoU 0.50 and a score threshold; ignored detections are none.

    Attributes:
        counts: ``[I]`` number of missed boxes and false positives.
        costs: ``[I]`` number of missed boxes, plus the scores of the false positives.
    """

    counts: np.ndarray
    costs: np.ndarray


def image_mistakes(matches: DetectionMatches, *, threshold: float) -> ImageMistakes:
    """Count the mistakes of every image among detections with at least this score."""
    detections, images = matches.detections, len(matches.image_ids)
    wrong = (detections.scores >= threshold) & ~matches.correct[0] & matches.counted
    is_missed = ~(matches.found_scores() >= threshold)  # true for NaN, too
    missed = np.bincount(matches.truth.images[is_missed], minlength=images)
    false = np.bincount(detections.images[wrong], minlength=images)
    costs = missed + np.bincount(detections.images[wrong], weights=detections.scores[wrong], minlength=images)
    return ImageMistakes(missed + false, costs)


def gallery(
    matches: DetectionMatches,
    mistakes: Mistakes,
    annotations: CocoAnnotations,
    *,
    threshold: float,
    count: int,
    thumbnail: Callable[[int], str | None],
) -> dict[str, Any]:
    """Return the ``count`` images with the highest cost at the threshold, for the payload; equals by rising id."""
    wrong = image_mistakes(matches, threshold=threshold)
    with_mistakes = np.flatnonzero(wrong.counts)
    worst = with_mistakes[np.argsort(-wrong.costs[with_mistakes], kind="stable")][: max(count, 0)]
    records = {record.image_id: record for record in annotations.images}
    found = matches.found_scores()
    shown = []
    for image in worst.tolist():
        record = records[int(matches.image_ids[image])]
        shown.append(
            {
                "id": record.image_id,
                "file_name": relative_name(record.file_name),
                "width": record.width,
                "height": record.height,
                "thumbnail": thumbnail(record.image_id),
                "cost": round(float(wrong.costs[image]), 4),
                "truth": _truth(image, matches, annotations, found),
                "detections": _detections(image, matches, mistakes, lowest=min(LOWEST_SCORE, threshold)),
            }
        )
    return {"threshold": threshold, "total": len(with_mistakes), "images": shown}


def _truth(
    image: int, matches: DetectionMatches, annotations: CocoAnnotations, found: np.ndarray
) -> list[dict[str, Any]]:
    """Return the boxes of an image and its crowd regions, which `DetectionMatches.truth` leaves out."""
    row = int(np.searchsorted(matches.truth.images, image))
    entries = []
    for annotation in annotations.annotations_of(int(matches.image_ids[image])):
        crowd = bool(annotation["iscrowd"])
        score = None if crowd or np.isnan(found[row]) else float(found[row])
        label = matches.categories.label(annotation["category_id"])
        entries.append({"box": _box(annotation["bbox"]), "label": label, "crowd": crowd, "found": score})
        row += not crowd
    return entries


def _detections(image: int, matches: DetectionMatches, mistakes: Mistakes, *, lowest: float) -> list[dict[str, Any]]:
    """Return the detections of an image by falling score."""
    table = matches.detections
    first, last = np.searchsorted(table.images, [image, image + 1])
    last = min(last, first + MOST_DETECTIONS)
    entries = []
    for row in np.flatnonzero(table.scores[first:last] >= lowest) + first:
        ignored = bool(matches.ignored[0, row])
        iou = table.crowd_ious[row] if ignored else mistakes.ious[row]
        entries.append(
            {
                "box": _box(table.boxes[row]),
                "label": int(table.labels[row]),
                "score": float(table.scores[row]),
                "kind": "ignored" if ignored else KINDS[mistakes.kinds[row]],
                "iou": round(float(iou), 3),
            }
        )
    return entries


def _box(numbers: Any) -> list[float]:
    return [round(float(number), 1) for number in numbers]
