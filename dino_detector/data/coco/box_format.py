"""Boxes that are not written as COCO wants them: as corners, as centres, as fractions of the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split, every
from dino_detector.data.coco.findings import Finding

TOLERANCE = 1.0
"""pixels that a box may reach beyond its image, as in training"""
FEWEST_BOXES = 3
"""fewer tell nothing about the format of a file"""
MISFITS = 0.1
"""share of boxes that must reach beyond their images before another format is thought of"""
FITS = 0.98
"""share of boxes that must fit in another format before it is believed"""


class Formatted(NamedTuple):
    """A split with its boxes as ``[x, y, width, height]`` in pixels, and what they were instead."""

    split: Split
    findings: list[Finding]


def in_coco_format(split: Split) -> Formatted:
    """Detect corners, centres and fractions by how well the boxes fit their images, and convert them.

    Under a wrong reading many boxes leave their images; by chance hardly any set of boxes fits another one throughout.
    """
    boxes, sizes = split.boxes.xywh, split.box_image_sizes
    rows = np.flatnonzero(every(np.isfinite(boxes)) & every(np.isfinite(sizes)))
    if len(rows) < FEWEST_BOXES:
        return Formatted(split, [])
    known, limits = boxes[rows], np.tile(sizes[rows], 2)
    kinds = []
    fractions = every((known >= -0.001) & (known <= 1.001)) & every(limits[:, :2] > 8)
    if fractions.mean() >= FITS:
        known = known * limits
        kinds.append("boxes_fractions")
    if (~_fits(known, limits)).mean() >= MISFITS:
        for kind, converted in (("boxes_corners", _from_corners(known)), ("boxes_centres", _from_centres(known))):
            if _fits(converted, limits).mean() >= FITS:
                known = converted
                kinds.append(kind)
                break
    if not kinds:
        return Formatted(split, [])
    xywh = boxes.copy()
    xywh[rows] = known
    ids = [split.boxes.label(row) for row in rows.tolist()]
    findings = [Finding(kind, split.name, len(rows), len(boxes), "boxes", ids) for kind in kinds]
    return Formatted(split.with_boxes(xywh), findings)


def _fits(xywh: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """``[N]`` bool: boxes of some size that lie in their images, give or take a pixel."""
    near, sides = xywh[:, :2], xywh[:, 2:]
    return every((near >= -TOLERANCE) & (near + sides <= limits[:, :2] + TOLERANCE) & (sides > 0))


def _from_corners(xyxy: np.ndarray) -> np.ndarray:
    return np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])


def _from_centres(cxcywh: np.ndarray) -> np.ndarray:
    return np.hstack([cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, 2:]])
