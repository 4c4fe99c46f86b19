"""Boxes from COCO polygons and masks, for annotations without a bbox."""

from __future__ import annotations

from typing import Any

import numpy as np

from dino_detector.data.coco.entries import LARGEST_SIDE, plain_value


def box_of_mask(segmentation: Any) -> list[float] | None:
    """Return the x, y, width and height in pixels of a polygon or mask; None if it is neither.

    Args:
        segmentation: the value of an annotation, parsed or raw: polygons ``[[x1, y1, x2, y2, ...], ...]``, or a mask in
            run-length encoding, ``{"size": [height, width], "counts": ...}``.
    """
    try:
        value = plain_value(segmentation)
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
