"""The images with the worst mistakes, and all that a page needs to draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.mistakes import KINDS, Mistakes
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.plain_text import relative_name

LOWEST_SCORE = 0.05
"""detections below it are not drawn, unless the threshold is lower still"""
MOST_DETECTIONS = 100
"""that an image of the gallery has, the best scored"""


class ImageMistakes(NamedTuple):
    """How wrong each image is at IoU 0.50 and a score threshold; detections that a crowd excuses are no mistakes.

    Attributes:
        counts: ``[I]`` boxes that are not found, and detections that find none.
        costs: ``[I]`` the same, but of a detection its score, so that sure ones weigh more.
    """

    counts: np.ndarray
    costs: np.ndarray


def image_mistakes(matches: DetectionMatches, *, threshold: float) -> ImageMistakes:
    """Count the mistakes of every image among detections with at least that score."""
    detections, images = matches.detections, len(matches.image_ids)
    wrong = (detections.scores >= threshold) & ~matches.correct[0] & matches.counted
    is_missed = ~(matches.found_scores() >= threshold)  # NaN, for none, is no score
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
    """The ``count`` images of the highest cost at the threshold, as the payload has them; equals by ascending id."""
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
    """Boxes and crowd regions of an image, the boxes in the order of their table."""
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
    """Detections of an image by falling score."""
    table = matches.detections
    first, last = np.searchsorted(table.images, [image, image + 1])
    rows = [row for row in range(first, last) if table.scores[row] >= lowest][:MOST_DETECTIONS]
    entries = []
    for row in rows:
        ignored = bool(matches.ignored[0][row])
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
