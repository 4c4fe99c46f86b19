"""Detects boxes in other formats than COCO's, and converts them."""

from __future__ import annotations

import numpy as np

from dino_detector.data.coco.columns import Split, every
from dino_detector.data.coco.findings import Finding

TOLERANCE = 1.0
"""pixels that a box may reach beyond its image, as in training"""
FEWEST_BOXES = 3
"""number of boxes below which the format can't be judged"""
MISFITS = 0.1
"""share of boxes that must reach beyond their images before another format is considered"""
FITS = 0.98
"""share of boxes that must fit in another format before it is believed"""


def in_coco_format(split: Split) -> tuple[Split, list[Finding]]:
    """Detect corners, centres and fractions by how well the boxes fit their images.

    In a wrong format many boxes leave their images; by chance hardly any set of boxes fits another format throughout.

    Returns:
        The split with boxes as ``[x, y, width, height]`` in pixels, and findings about the formats they had.
    """
    boxes, sizes = split.boxes.xywh, split.box_image_sizes
    rows = np.flatnonzero(every(np.isfinite(boxes)) & every(np.isfinite(sizes)))
    if len(rows) < FEWEST_BOXES:
        return split, []
    known, limits = boxes[rows], np.tile(sizes[rows], 2)
    kinds = []
    fractions = every((known >= -0.001) & (known <= 1.001)) & every(limits[:, :2] > 8)
    if fractions.mean() >= FITS:
        known = known * limits
        kinds.append("boxes_fractions")
    if (~_fits(known, limits)).mean() >= MISFITS:
        first, second = known[:, :2], known[:, 2:]
        from_corners = np.hstack([first, second - first])
        from_centres = np.hstack([first - second / 2, second])
        for kind, converted in (("boxes_corners", from_corners), ("boxes_centres", from_centres)):
            if _fits(converted, limits).mean() >= FITS:
                known = converted
                kinds.append(kind)
                break
    if not kinds:
        return split, []
    xywh = boxes.copy()
    xywh[rows] = known
    return split.with_boxes(xywh), [split.find_boxes(kind, rows) for kind in kinds]


def _fits(xywh: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which boxes have an area and lie in their images, give or take a pixel, ``[N]`` bool."""
    near, sides = xywh[:, :2], xywh[:, 2:]
    return every((near >= -TOLERANCE) & (near + sides <= limits[:, :2] + TOLERANCE) & (sides > 0))
