"""Boxes that can hardly be objects, areas that do not fit, and boxes that are drawn twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data_check.patches import PatchGrid

TINY_SIDE = 2.0
"""side in image pixels below which a box is a slip of the mouse; training drops boxes below 1 pixel after the resize"""
GIANT_SHARE = 0.95
"""share of its image from which a box is a label of the whole picture"""
AREA_EXCESS = 1.05
"""largest ratio of ``area`` to the area of the box, for rounding; the area of a mask is smaller"""
NEAR_IOU = 0.9
CONFLICT_IOU = 0.95
DIGITS = 2
"""decimals of coordinates that must agree in exact duplicates"""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, as in Knuth's multiplicative hashing"""


class Pairs(NamedTuple):
    """P pairs of boxes of the same image: rows of the table, the first below the second, and their IoU."""

    first: np.ndarray
    second: np.ndarray
    iou: np.ndarray


def check_extents(split: Split, grid: PatchGrid) -> list[Finding]:
    """Find boxes that are tiny or giant, and areas that do not fit their box."""
    boxes = split.boxes
    with np.errstate(invalid="ignore"):
        sides = split.clipped_xyxy[:, 2:] - split.clipped_xyxy[:, :2]
        share = sides.prod(axis=1) / split.box_image_sizes.prod(axis=1)
        resized = sides * grid.scales(split.images.sizes)[boxes.image]
        usable = split.usable & ~boxes.crowd
        dropped = usable & (resized < 1).any(axis=1)
        tiny = dropped | (usable & (sides < TINY_SIDE).any(axis=1))
        boxed = boxes.xywh[:, 2:].prod(axis=1)
        wrong = (boxed > 0) & ((boxes.area == 0) | (boxes.area > AREA_EXCESS * boxed + 1))
    lost = f"; training drops {dropped.sum():,} of them, below 1 pixel once resized" if dropped.any() else ""
    return [
        split.find_boxes("box_tiny", tiny, f"a side below {TINY_SIDE:g} pixels{lost}"),
        split.find_boxes("box_giant", usable & (share >= GIANT_SHARE), f"{100 * GIANT_SHARE:.0f} % of it or more"),
        split.find_boxes("area_wrong", wrong & ~boxes.crowd),
    ]


def check_pairs(split: Split) -> list[Finding]:
    """Find duplicates of the same class, and boxes of two classes on one object."""
    boxes = split.boxes
    rows = np.flatnonzero(split.trained)
    total = len(rows)
    rounded = (boxes.xywh[rows] * 10**DIGITS).round().astype(np.int64)
    prints = fingerprints(boxes.image[rows], boxes.category[rows], *rounded.T)
    _, leaders = np.unique(prints, return_index=True)
    exact = np.delete(rows, leaders)

    rows = rows[np.sort(leaders)]
    pairs = overlapping_pairs(split.clipped_xyxy[rows], boxes.image[rows], least=NEAR_IOU)
    first, second = rows[pairs.first], rows[pairs.second]
    same = boxes.category[first] == boxes.category[second]
    conflict = ~same & (pairs.iou >= CONFLICT_IOU)
    most = _most_frequent_conflict(split, first[conflict], second[conflict])
    return [
        split.find_boxes("box_twice", exact, total=total),
        split.find_boxes("box_nearly_twice", np.unique(second[same]), total=total),
        split.find_boxes("labels_conflict", np.unique(second[conflict]), most, total=total),
    ]


def overlapping_pairs(boxes_xyxy: np.ndarray, image: np.ndarray, *, least: float) -> Pairs:
    """Return the pairs of boxes of one image with an IoU of at least ``least``.

    An IoU of t bounds the distance of the left edges by (1 - t) / t of the left box's width. So boxes are sorted by
    image and left edge, and each is compared with its k-th neighbour for k = 1, 2, ... while a neighbour is near.

    Args:
        boxes_xyxy: ``[N, 4]``, each with an area.
        image: ``[N]`` int64.
        least: lowest IoU, above 0.5.
    """
    rows = np.lexsort((boxes_xyxy[:, 0], image))
    lefts, images = boxes_xyxy[rows, 0], image[rows]
    reach = lefts + (boxes_xyxy[rows, 2] - lefts) * (1 - least) / least
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    active, step = np.arange(len(rows)), 1
    while len(active := active[active + step < len(rows)]):
        near = (images[active] == images[active + step]) & (lefts[active + step] <= reach[active])
        active = active[near]
        one, other = rows[active], rows[active + step]
        iou = _iou(boxes_xyxy[one], boxes_xyxy[other])
        close = iou >= least
        found.append(Pairs(np.minimum(one, other)[close], np.maximum(one, other)[close], iou[close]))
        step += 1
    return Pairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def fingerprints(*columns: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash ``[N]`` uint64 of each row of int64 columns ``[N]``; different rows practically differ."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ np.ascontiguousarray(column, np.int64).view(np.uint64)) * MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return mixed * MULTIPLIER ^ (mixed >> np.uint64(32))


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU ``[P]`` of boxes ``[P, 4]`` xyxy, row by row; libraries compute all ``[P, P]`` pairs."""
    sides = (np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])).clip(min=0)
    shared = sides.prod(axis=1)
    areas = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1)
    return shared / (areas - shared)


def _most_frequent_conflict(split: Split, first: np.ndarray, second: np.ndarray) -> str:
    """Return a note with the two classes that most often share an object."""
    if not len(first):
        return ""
    both = np.sort(np.column_stack([split.boxes.category[first], split.boxes.category[second]]), axis=1)
    kinds, counts = np.unique(both, axis=0, return_counts=True)
    one, other = (split.categories.names[position] for position in kinds[counts.argmax()].tolist())
    return f"most often {one} and {other}"
