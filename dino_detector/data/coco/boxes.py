"""Boxes of a COCO file: boxes of masks, boxes in other formats, and boxes that can't be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import STOPS, WARNS, Finding

LARGEST_SIDE = 10**7
"""largest width or height of an image in pixels"""
TOLERANCE = 1.0
"""pixels that a box may reach beyond its image, as in training"""
FEWEST_BOXES = 3
"""number of boxes below which the format can't be judged"""
MISFITS = 0.1
"""share of boxes that must reach beyond their images before another format is considered"""
FITS = 0.98
"""share of boxes that must fit in another format before it is believed"""
FEW = 0.05
"""largest share of unusable boxes that training leaves out, one box at least; it refuses more"""
LEFT_OUT = "training leaves them out"
FAR = 0.1
"""least median excess of boxes whose images have swapped sides, as a share of the shorter side"""


def box_of_mask(segmentation: Any) -> list[float] | None:
    """Return the x, y, width and height in pixels of a polygon or mask; None if it is neither.

    Args:
        segmentation: the value of an annotation, parsed or raw: polygons ``[[x1, y1, x2, y2, ...], ...]``, or a mask in
            run-length encoding, ``{"size": [height, width], "counts": ...}``.
    """
    try:
        value = msgspec.json.decode(segmentation) if isinstance(segmentation, msgspec.Raw) else segmentation
        return _box_of_runs(value) if isinstance(value, dict) else _box_of_polygons(value)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def _box_of_polygons(polygons: list[list[float]]) -> list[float] | None:
    points = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons])  # [N, 2]
    near, far = points.min(axis=0), points.max(axis=0)
    return [*near.tolist(), *(far - near).tolist()] if np.isfinite(points).all() else None


def _box_of_runs(mask: dict[str, Any]) -> list[float] | None:
    from hotcoco.mask import fr_py_objects, to_bbox  # late: only few files need it

    height, width = mask["size"]
    if not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in (height, width)) or height * width >= 2**32:
        return None
    counts = mask["counts"]
    if isinstance(counts, list):
        if sum(counts) != height * width:
            return None
        mask = fr_py_objects(mask, height, width)
    box = np.asarray(to_bbox(mask)).reshape(-1).tolist()
    return box if box[2] > 0 and box[3] > 0 else None


def in_coco_format(split: Split) -> tuple[Split, list[Finding]]:
    """Detect corners, centres and fractions by how well the boxes fit their images.

    In a wrong format many boxes leave their images; by chance hardly any set of boxes fits another format throughout.

    Returns:
        The split with boxes as ``[x, y, width, height]`` in pixels, and findings about the formats they had.
    """
    boxes, sizes = split.boxes.xywh, split.box_image_sizes
    rows = np.flatnonzero(np.isfinite(boxes).all(axis=1) & np.isfinite(sizes).all(axis=1))
    if len(rows) < FEWEST_BOXES:
        return split, []
    known, limits = boxes[rows], np.tile(sizes[rows], 2)
    kinds = []
    fractions = ((known >= -0.001) & (known <= 1.001) & (limits > 8)).all(axis=1)
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
    return replace(split, boxes=replace(split.boxes, xywh=xywh)), [split.find_boxes(kind, rows) for kind in kinds]


def _fits(xywh: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which boxes have an area and lie in their images, give or take a pixel, ``[N]`` bool."""
    near, sides = xywh[:, :2], xywh[:, 2:]
    return ((near >= -TOLERANCE) & (near + sides <= limits[:, :2] + TOLERANCE) & (sides > 0)).all(axis=1)


def check_boxes(split: Split, boxless: Mapping[str, Sequence[int]]) -> list[Finding]:
    """Return findings about unusable boxes, boxes that training clips, and images with swapped sides.

    Training leaves unusable boxes out if they are few, and refuses the file otherwise.

    Args:
        split: boxes in COCO's format.
        boxless: rows of annotations whose bbox can't be read, by the kind of the finding.
    """
    boxes = split.boxes
    corners = np.hstack([boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]]).astype(np.float32)  # as in training
    near, far = corners[:, :2], corners[:, 2:]
    with np.errstate(invalid="ignore"):
        negative = (boxes.xywh[:, 2:] < 0).any(axis=1)
        flat = ~negative & (near == far).any(axis=1)
        excess = np.maximum(-near, far - split.box_image_sizes).max(axis=1)  # [M] pixels beyond the image
        outside = ~negative & ~flat & ((near >= split.box_image_sizes) | (far <= 0)).any(axis=1)
        beyond = ~negative & ~flat & ~outside & (excess > TOLERANCE)
    swapped = _swapped_sides(split, corners, outside | beyond, excess)  # [S] positions of images
    many_swapped = len(swapped) > FEW * len(split.images.ids)
    if many_swapped:  # boxes that do not fit are a consequence
        of_swapped = np.isin(boxes.image, swapped)
        outside, beyond = outside & ~of_swapped, beyond & ~of_swapped
    masks = {"box_negative": negative, "box_no_size": flat, "box_outside": outside}
    rows = {**boxless, **{kind: np.flatnonzero(mask) for kind, mask in masks.items()}}
    few = sum(map(len, rows.values())) <= max(1, FEW * len(boxes.ids))
    note, effect = (LEFT_OUT, WARNS) if few else ("", STOPS)
    how_far = f"by up to {excess[beyond].max():,.0f} pixels" if beyond.any() else ""
    swapped_effect = STOPS if many_swapped else None
    return [
        split.find_images("image_sides_swapped", swapped, "as their boxes show", training=swapped_effect),
        *(split.find_boxes(kind, of_kind, note, training=effect) for kind, of_kind in rows.items()),
        split.find_boxes("box_beyond", beyond, how_far),
    ]


def _swapped_sides(split: Split, xyxy: np.ndarray, misfits: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Return the positions ``[S]`` of images whose boxes fit only after width and height are swapped.

    A box that reaches a little below a wide image fits a tall one by chance. So a swap is believed only if the median
    misfit reaches far outside, and if most affected images agree.

    Args:
        split: images and boxes.
        xyxy: ``[M, 4]`` corners of the boxes.
        misfits: ``[M]`` bool, boxes that reach beyond their image.
        excess: ``[M]`` number of pixels beyond the image.
    """
    boxes, sizes = split.boxes, split.box_image_sizes
    affected = np.unique(boxes.image[misfits])
    if not len(affected) or np.median(excess[misfits] / sizes[misfits].min(axis=1)) < FAR:
        return affected[:0]
    with np.errstate(invalid="ignore"):
        bad = ~((xyxy[:, :2] >= -TOLERANCE) & (xyxy[:, 2:] <= sizes[:, ::-1] + TOLERANCE)).all(axis=1)
    swapped = np.setdiff1d(affected, boxes.image[bad])
    swapped = swapped[split.images.sizes[swapped, 0] != split.images.sizes[swapped, 1]]
    return swapped if len(swapped) >= 0.8 * len(affected) else affected[:0]
