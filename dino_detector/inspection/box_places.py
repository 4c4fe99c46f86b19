"""Where boxes lie in their images, and whether they can be objects at all."""

from __future__ import annotations

import numpy as np

from dino_detector.inspection.box_format import TOLERANCE
from dino_detector.inspection.findings import Finding
from dino_detector.inspection.patches import PatchGrid
from dino_detector.inspection.split import Split

TINY_SIDE = 2.0
"""pixels of the picture below which a side is that of a slip of the mouse; training drops what is below 1 resized"""
GIANT_SHARE = 0.95
"""share of its image from which a box is a label of the whole picture"""

AREA_EXCESS = 1.05
"""times the area of its box that ``area`` may be, for rounding; that of a mask is smaller"""
FAR = 0.1
"""of the shorter side: how far boxes reach beyond images whose width and height are swapped"""


def check_places(split: Split, grid: PatchGrid) -> list[Finding]:
    """Boxes of no or negative size, outside or beyond their image, tiny and giant; wrong areas; swapped sides."""
    boxes = split.boxes
    total = len(boxes.ids)
    findings: list[Finding] = []

    def find(kind: str, mask: np.ndarray, note: str = "", weight: float = 1.0) -> None:
        if mask.any():
            ids = [boxes.label(row) for row in np.flatnonzero(mask).tolist()]
            findings.append(Finding(kind, split.name, len(ids), total, "boxes", ids, note, weight=weight))

    with np.errstate(invalid="ignore"):
        negative = (boxes.xywh[:, 2:] < 0).any(axis=1)
        flat = ~negative & (boxes.xywh[:, 2:] == 0).any(axis=1)
        near, far = boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]
        excess = np.maximum(-near, far - split.box_image_sizes).max(axis=1)  # [M] pixels, NaN where unknown
        outside = ~negative & ~flat & ((near >= split.box_image_sizes) | (far <= 0)).any(axis=1)
        beyond = ~negative & ~flat & ~outside & (excess > TOLERANCE)
        sides = split.clipped_xyxy[:, 2:] - split.clipped_xyxy[:, :2]
        share = sides.prod(axis=1) / split.box_image_sizes.prod(axis=1)
        resized = sides * grid.scales(split.images.sizes)[boxes.image]
        usable = split.usable & ~boxes.crowd
        tiny = usable & ((sides < TINY_SIDE).any(axis=1) | (resized < 1).any(axis=1))
        dropped = usable & (resized < 1).any(axis=1)
    find("box_negative", negative)
    find("box_no_size", flat, "known of COCO's own files" if split.is_coco else "", 0.1 if split.is_coco else 1.0)
    find("box_outside", outside)
    find("box_beyond", beyond, f"by up to {excess[beyond].max():,.0f} pixels" if beyond.any() else "")
    lost = f"; training drops {dropped.sum():,} of them, below 1 pixel once resized" if dropped.any() else ""
    find("box_tiny", tiny, f"a side below {TINY_SIDE:g} pixels{lost}")
    find("box_giant", usable & (share >= GIANT_SHARE), f"{100 * GIANT_SHARE:.0f} % of it or more")
    with np.errstate(invalid="ignore"):
        boxed = boxes.xywh[:, 2:].prod(axis=1)
        wrong = (boxes.area < 0) | ((boxed > 0) & ((boxes.area == 0) | (boxes.area > AREA_EXCESS * boxed + 1)))
    find("area_wrong", wrong & ~boxes.crowd)
    findings += _swapped_sides(split, outside | beyond, excess)
    return findings


def _swapped_sides(split: Split, misfits: np.ndarray, excess: np.ndarray) -> list[Finding]:
    """Images whose boxes all fit once width and height are swapped, though some do not as the file has it.

    A box that reaches a little below a wide picture would fit a tall one by chance: believed if it is far, and usual.
    """
    boxes, sizes = split.boxes, split.box_image_sizes
    affected = np.unique(boxes.image[misfits])
    if not len(affected) or np.median(excess[misfits] / sizes[misfits].min(axis=1)) < FAR:
        return []
    far = boxes.xywh[:, :2] + boxes.xywh[:, 2:]
    with np.errstate(invalid="ignore"):
        bad = ~((boxes.xywh[:, :2] >= -TOLERANCE) & (far <= sizes[:, ::-1] + TOLERANCE)).all(axis=1)
    swapped = np.setdiff1d(affected, boxes.image[bad])
    swapped = swapped[split.images.sizes[swapped, 0] != split.images.sizes[swapped, 1]]
    if len(swapped) < 0.8 * len(affected):
        return []
    names = [split.images.label(index) for index in swapped.tolist()]
    total = len(split.images.ids)
    return [Finding("image_sides_swapped", split.name, len(names), total, "images", names, "as their boxes show")]
