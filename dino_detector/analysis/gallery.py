"""The images with the worst mistakes, with the boxes that a page draws and a thumbnail of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from dino_detector.analysis.html_file import jpeg_url
from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.mistakes import KINDS, Mistakes, image_mistakes
from dino_detector.analysis.runs import file_inside
from dino_detector.data.pictures.decoding import read_image
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, relative_name

if TYPE_CHECKING:
    from dino_detector.data.coco.annotations import CocoAnnotations, ImageRecord

log = logging.getLogger(__name__)

LOWEST_SCORE = 0.05
"""lowest score of a drawn detection, unless the threshold is lower"""
MOST_DETECTIONS = 100
"""number of drawn detections of an image, by descending score"""
THUMBNAIL_BYTES = 6_500_000
"""limit for all thumbnails of a report, so that it stays below 10 MB"""
STEPS = ((480, 82), (480, 70), (480, 55), (360, 55), (240, 50), (120, 40))
"""longest side in pixels and JPEG quality, from the best to the smallest"""


def gallery(
    matches: DetectionMatches,
    mistakes: Mistakes,
    annotations: CocoAnnotations,
    *,
    threshold: float,
    count: int,
    folder: Path | None,
) -> dict[str, Any]:
    """Return the ``count`` images with the highest cost at the threshold, for the payload; equals by rising id.

    Without a ``folder`` of images there are no thumbnails.
    """
    wrong = image_mistakes(matches, threshold=threshold)
    with_mistakes = np.flatnonzero(wrong.counts)
    worst = with_mistakes[np.argsort(-wrong.costs[with_mistakes], kind="stable")][:count].tolist()
    by_id = {record.image_id: record for record in annotations.images}
    records = [by_id[int(matches.image_ids[image])] for image in worst]
    lowest = min(LOWEST_SCORE, math.floor(100 * threshold) / 100)  # a place of the page's slider
    urls = [None] * len(records) if folder is None else thumbnails(records, folder)
    found = matches.found_scores()
    images = [
        {
            "id": record.image_id,
            "file_name": relative_name(record.file_name),
            "width": record.width,
            "height": record.height,
            "thumbnail": url,
            "cost": round(float(wrong.costs[image]), 4),
            "truth": _truth(image, matches, annotations, found),
            "detections": _detections(image, matches, mistakes, lowest=lowest),
        }
        for image, record, url in zip(worst, records, urls, strict=True)
    ]
    return {"threshold": threshold, "lowest": lowest, "total": len(with_mistakes), "images": images}


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
    """Return the detections of an image by descending score."""
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


def thumbnails(records: Sequence[ImageRecord], folder: Path) -> list[str | None]:
    """Return the JPEG data URLs of images, upright as `read_image` reads them, `THUMBNAIL_BYTES` characters at most.

    Each image gets an equal part of the characters that are left. An absent or unreadable image, or one whose size
    differs from its record, gives None; one warning counts them and has the first reason.
    """
    urls: list[str | None] = []
    failures, budget = [], THUMBNAIL_BYTES
    for position, record in enumerate(records):
        path, url = file_inside(folder, record.file_name), None
        try:
            if path is None:
                raise InputError(f"{folder}: {record.file_name!r}, image {record.image_id}, is not there")
            picture = to_pil_image(read_image(path, expected_size=(record.height, record.width)))
            url = _within(picture, budget // (len(records) - position))
            if url is None:
                raise InputError(f"{path}: there is no room for it; show fewer with --gallery_images")
        except InputError as error:
            failures.append(error)
        urls.append(url)
        budget -= len(url or "")
    if failures:
        log.warning("the report lacks the picture of %s: %s", counted(len(failures), "image"), failures[0])
    return urls


def _within(picture: Image.Image, limit: int) -> str | None:
    """Return the best data URL with at most ``limit`` characters; None if none is small enough."""
    for side, quality in STEPS:
        small = picture.copy()
        small.thumbnail((side, side))
        url = jpeg_url(small, quality=quality)
        if len(url) <= limit:
            return url
    return None
