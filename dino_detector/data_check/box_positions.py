"""Where boxes lie in their images, and whether they can be objects at all."""

from __future__ import annotations

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data_check.patches import PatchGrid

TINY_SIDE = 2.0
"""pixels of the picture below which a side is that of a slip of the mouse; training drops what is below 1 resized"""
GIANT_SHARE = 0.95
"""share of its image from which a box is a label of the whole picture"""

AREA_EXCESS = 1.05
"""times the area of its box that ``area`` may be, for rounding; that of a mask is smaller"""


def check_places(split: Split, grid: PatchGrid) -> list[Finding]:
    """Boxes that are tiny or giant, and areas that do not fit."""
    boxes = split.boxes
    total = len(boxes.ids)
    findings: list[Finding] = []

    def find(kind: str, mask: np.ndarray, note: str = "") -> None:
        ids = [boxes.label(row) for row in np.flatnonzero(mask).tolist()]
        findings.append(Finding(kind, split.name, len(ids), total, "boxes", ids, note))

    with np.errstate(invalid="ignore"):
        sides = split.clipped_xyxy[:, 2:] - split.clipped_xyxy[:, :2]
        share = sides.prod(axis=1) / split.box_image_sizes.prod(axis=1)
        resized = sides * grid.scales(split.images.sizes)[boxes.image]
        usable = split.usable & ~boxes.crowd
        tiny = usable & ((sides < TINY_SIDE).any(axis=1) | (resized < 1).any(axis=1))
        dropped = usable & (resized < 1).any(axis=1)
        boxed = boxes.xywh[:, 2:].prod(axis=1)
        wrong = (boxed > 0) & ((boxes.area == 0) | (boxes.area > AREA_EXCESS * boxed + 1))
    lost = f"; training drops {dropped.sum():,} of them, below 1 pixel once resized" if dropped.any() else ""
    find("box_tiny", tiny, f"a side below {TINY_SIDE:g} pixels{lost}")
    find("box_giant", usable & (share >= GIANT_SHARE), f"{100 * GIANT_SHARE:.0f} % of it or more")
    find("area_wrong", wrong & ~boxes.crowd)
    return findings
