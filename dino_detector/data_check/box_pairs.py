"""Boxes that are drawn twice: exactly, nearly, or with two classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data_check.fingerprints import fingerprints

NEAR_IOU = 0.9
CONFLICT_IOU = 0.95
DIGITS = 2
"""decimals to which coordinates must agree to be the same"""


class Pairs(NamedTuple):
    """P pairs of boxes of the same image: rows of the table, the first below the second, and their IoU."""

    first: np.ndarray
    second: np.ndarray
    iou: np.ndarray


def check_pairs(split: Split) -> list[Finding]:
    """Duplicates of the same class, and boxes of two classes on one object."""
    boxes = split.boxes
    rows = np.flatnonzero(split.trained)
    rounded = (boxes.xywh[rows] * 10**DIGITS).round().astype(np.int64)
    prints = fingerprints(boxes.image[rows], boxes.category[rows], *rounded.T)
    _, leaders = np.unique(prints, return_index=True)
    exact = np.delete(rows, leaders)

    rows = rows[np.sort(leaders)]
    pairs = overlapping_pairs(split.clipped_xyxy[rows], boxes.image[rows], least=NEAR_IOU)
    first, second = rows[pairs.first], rows[pairs.second]
    same = boxes.category[first] == boxes.category[second]
    conflict = ~same & (pairs.iou >= CONFLICT_IOU)
    total = int(split.trained.sum())
    return [
        Finding(kind, split.name, len(found), total, "boxes", [boxes.label(row) for row in found.tolist()], note)
        for kind, found, note in (
            ("box_twice", exact, ""),
            ("box_nearly_twice", np.unique(second[same]), ""),
            ("labels_conflict", np.unique(second[conflict]), _conflict(split, first[conflict], second[conflict])),
        )
    ]


def overlapping_pairs(boxes_xyxy: np.ndarray, image: np.ndarray, *, least: float) -> Pairs:
    """Pairs of boxes of one image with an IoU of at least ``least``.

    An IoU of t bounds how far left edges lie apart, by (1 - t) / t of the left box's width. So boxes are sorted by
    image and left edge, and each is compared with its k-th neighbour for k = 1, 2, ... as long as one is near enough.

    Args:
        boxes_xyxy: ``[N, 4]`` with a positive area each.
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


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``[P]`` IoU of boxes ``[P, 4]`` xyxy, row by row."""
    sides = (np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])).clip(min=0)
    shared = sides.prod(axis=1)
    areas = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1)
    return shared / (areas - shared)


def _conflict(split: Split, first: np.ndarray, second: np.ndarray) -> str:
    """The two classes that stand most often on one object."""
    if not len(first):
        return ""
    both = np.sort(np.column_stack([split.boxes.category[first], split.boxes.category[second]]), axis=1)
    kinds, counts = np.unique(both, axis=0, return_counts=True)
    one, other = (split.categories.names[position] for position in kinds[counts.argmax()].tolist())
    return f"most often {one} and {other}"
