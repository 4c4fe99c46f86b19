"""Boxes that can hardly be objects, areas that do not fit, boxes that are drawn twice, and images without boxes."""

from __future__ import annotations

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import STOPS, Finding
from dino_detector.data.pictures.look_alikes import neighbours
from dino_detector.data_check.patches import PatchGrid

TINY_SIDE = 2.0
"""side in image pixels below which a box is a slip of the mouse; augmentation drops boxes below 1 resized pixel"""
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
EMPTY_SHARE = 0.2
"""share of images without boxes from which they are reported"""


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
    lost = f"; training with augmentation drops {dropped.sum():,}, below 1 pixel once resized" if dropped.any() else ""
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
    pairs, iou = _overlapping_pairs(split.clipped_xyxy[rows], boxes.image[rows])
    first, second = rows[pairs.T]
    same = boxes.category[first] == boxes.category[second]
    conflict = ~same & (iou >= CONFLICT_IOU)
    most = ""
    if conflict.any():
        classes = np.sort(boxes.category[rows[pairs[conflict]]], axis=1)
        kinds, counts = np.unique(classes, axis=0, return_counts=True)
        most = "most often " + " and ".join(split.categories.names[position] for position in kinds[counts.argmax()])
    return [
        split.find_boxes("box_twice", exact, total=total),
        split.find_boxes("box_nearly_twice", np.unique(second[same]), total=total),
        split.find_boxes("labels_conflict", np.unique(second[conflict]), most, total=total),
    ]


def check_empty(split: Split, findings: list[Finding]) -> list[Finding]:
    """Find images without boxes if they are many, and a split without boxes unless ``findings`` explain it."""
    total = len(split.images.ids)
    if split.trained.any():
        empty = np.setdiff1d(np.arange(total), split.boxes.image)
        return [split.find_images("images_without_boxes", empty)] if len(empty) >= EMPTY_SHARE * total else []
    if any(finding.effect == STOPS and finding.split == split.name for finding in findings):
        return []
    note, effect = f"{len(split.boxes.ids):,} annotations", None if split.name == "train" else ""
    return [Finding("no_boxes", split.name, total, total, "images", [], note, training=effect)]


def _overlapping_pairs(boxes_xyxy: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs ``[P, 2]`` of boxes ``[N, 4]`` of one image with an IoU of at least `NEAR_IOU`, and their IoU.

    An IoU of t bounds the distance of the left edges by (1 - t) / t of the left box's width.
    """
    order = np.lexsort((boxes_xyxy[:, 0], image))
    boxes_xyxy = boxes_xyxy[order]
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    areas, lefts = sides.prod(axis=1), boxes_xyxy[:, 0]
    pairs, ious = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for rows, others in neighbours(image[order], lefts, lefts + sides[:, 0] * (1 - NEAR_IOU) / NEAR_IOU):
        one, other = boxes_xyxy[rows], boxes_xyxy[others]
        overlap = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
        shared = overlap.clip(min=0).prod(axis=1)
        iou = shared / (areas[rows] + areas[others] - shared)
        close = iou >= NEAR_IOU
        pairs.append(np.sort(order[np.column_stack([rows, others])[close]], axis=1))
        ious.append(iou[close])
    return np.concatenate(pairs), np.concatenate(ious)


def fingerprints(*columns: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash ``[N]`` uint64 of each row of int64 columns ``[N]``; different rows practically differ."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ np.ascontiguousarray(column, np.int64).view(np.uint64)) * MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return mixed * MULTIPLIER ^ (mixed >> np.uint64(32))
