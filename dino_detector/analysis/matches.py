"""Which detection finds which ground truth box, in columns for a whole data set.

The rules are those of the COCO detection challenge: in each image and class the detections, by falling score, take
the free box that they overlap most; what takes none but lies in a crowd region of its class is ignored
(https://cocodataset.org/#detection-eval). No image or class depends on another, nor a detection on lower scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dino_detector.config.evaluation import MAX_DETECTIONS
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.structures.categories import Categories

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""``[T]``, as COCO computes them"""
NONE = -1
"""stands for "no box" where positions of boxes are"""
PAIRS_AT_ONCE = 2_000_000
"""how many overlaps are computed in one go: bounds the memory"""


class TruthTable(NamedTuple):
    """Ground truth boxes by image, crowd regions not among them; G of them.

    Attributes:
        images: ``[G]`` position of the image in `Matches.image_ids`, ascending.
        labels: ``[G]`` position of the class in the categories.
        boxes: ``[G, 4]`` x, y, width, height in pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


class DetectionTable(NamedTuple):
    """The D detections that count, the best of each image and class, by image, then by falling score, ties as given.

    Attributes:
        images: ``[D]`` position of the image in `Matches.image_ids`, ascending.
        labels: ``[D]`` position of the class in the categories.
        boxes: ``[D, 4]`` x, y, width, height in pixels.
        scores: ``[D]`` float64.
        crowd_ious: ``[D]`` the largest part of the box that lies in one crowd region of its class, 0..1.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    crowd_ious: np.ndarray


class Pairs(NamedTuple):
    """Overlapping detections and boxes of whatever class; by detection, then IoU, both ascending; P of them.

    Attributes:
        detections: ``[P]`` row of the detection.
        truths: ``[P]`` row of the box.
        ious: ``[P]`` above 0.
        same_class: ``[P]`` bool.
    """

    detections: np.ndarray
    truths: np.ndarray
    ious: np.ndarray
    same_class: np.ndarray


@dataclass(frozen=True)
class Matches:
    """The detections and the ground truth of a data set, and who finds whom at each of the T IoU thresholds.

    Attributes:
        image_ids: ``[I]`` ids of the evaluated images, ascending, with or without boxes or detections.
        categories: the C classes.
        truth: the boxes.
        detections: the detections.
        pairs: those that overlap.
        found: ``[T, D]`` int32, the row of the box that a detection finds, or -1.
        ignored: ``[T, D]`` bool, finds no box, but lies in a crowd.
    """

    image_ids: np.ndarray
    categories: Categories
    truth: TruthTable
    detections: DetectionTable
    pairs: Pairs
    found: np.ndarray
    ignored: np.ndarray

    @classmethod
    def of(
        cls, annotations: CocoAnnotations, results: list[dict[str, Any]], *, max_detections: int = MAX_DETECTIONS
    ) -> Matches:
        """Match results with all images of the annotations; every image and category of a result is one of theirs."""
        image_ids = np.array(sorted(record.image_id for record in annotations.images), dtype=np.int64)
        category_ids = np.array(annotations.categories.ids, dtype=np.int64)
        entries = annotations.ground_truth["annotations"]
        truth, crowds = (
            _by_image(
                *_columns([entry for entry in entries if bool(entry["iscrowd"]) == crowd], image_ids, category_ids)
            )
            for crowd in (False, True)
        )

        images, labels, boxes = _columns(results, image_ids, category_ids)
        scores = np.array([row["score"] for row in results], dtype=np.float64)
        order = np.lexsort((-scores, images))
        order = order[_rank_within(images[order], labels[order]) < max_detections]
        images, labels, boxes, scores = images[order], labels[order], boxes[order], scores[order]

        in_crowd = _overlaps(images, boxes, crowds, crowd=True)
        own = labels[in_crowd[0]] == crowds.labels[in_crowd[1]]
        crowd_ious = np.zeros(len(scores))
        np.maximum.at(crowd_ious, in_crowd[0][own], in_crowd[2][own])

        rows, truths, ious = _overlaps(images, boxes, truth, crowd=False)
        pairs = Pairs(rows, truths, ious, labels[rows] == truth.labels[truths])
        found = _find(pairs, group=images * max(len(category_ids), 1) + labels, boxes=len(truth.labels))
        ignored = (found == NONE) & (crowd_ious >= IOU_THRESHOLDS[:, None])
        detections = DetectionTable(images, labels, boxes, scores, crowd_ious)
        return cls(image_ids, annotations.categories, truth, detections, pairs, found, ignored)

    @property
    def correct(self) -> np.ndarray:
        """``[T, D]`` bool: finds a box."""
        return self.found != NONE

    @property
    def boxes_of_class(self) -> np.ndarray:
        """``[C]`` how many boxes each class has."""
        return np.bincount(self.truth.labels, minlength=len(self.categories))

    def found_scores(self) -> np.ndarray:
        """``[G]`` the score of the detection that finds each box at IoU 0.50; NaN for none."""
        scores = np.full(len(self.truth.labels), np.nan)
        rows = np.flatnonzero(self.correct[0])
        scores[self.found[0, rows]] = self.detections.scores[rows]
        return scores


def _columns(
    rows: list[dict[str, Any]], image_ids: np.ndarray, category_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and boxes of annotations or results, in their order: ``[N]``, ``[N]`` and ``[N, 4]``."""
    images = np.searchsorted(image_ids, np.array([row["image_id"] for row in rows], dtype=np.int64))
    labels = np.searchsorted(category_ids, np.array([row["category_id"] for row in rows], dtype=np.int64))
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return images, labels, boxes


def _by_image(images: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> TruthTable:
    order = np.argsort(images, kind="stable")
    return TruthTable(images[order], labels[order], boxes[order])


def _rank_within(*groups: np.ndarray) -> np.ndarray:
    """``[N]`` how many earlier rows are in the same group; the group of a row is its value in all of ``groups``."""
    count = len(groups[0])
    order = np.lexsort(groups[::-1])  # stable
    is_first = np.ones(count, dtype=bool)
    if count:
        is_first[1:] = np.any([group[order][1:] != group[order][:-1] for group in groups], axis=0)
    positions = np.arange(count)
    ranks = np.empty(count, dtype=np.int64)
    ranks[order] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return ranks


def _overlaps(
    images: np.ndarray, boxes: np.ndarray, truth: TruthTable, *, crowd: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections, boxes and IoUs of the pairs of an image that overlap, ordered as in `Pairs`.

    The arithmetic is pycocotools', so that IoUs are the same to the last bit. Of a crowd region, the part of the
    detection inside takes the place of the IoU.
    """
    first = np.searchsorted(truth.images, images, side="left")  # [D] rows of the image's boxes
    counts = np.searchsorted(truth.images, images, side="right") - first
    ends = np.cumsum(counts)
    pieces = []
    start = 0
    while start < len(images):
        before = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
        number = counts[start:stop]
        rows = np.repeat(np.arange(start, stop), number)
        within = np.arange(len(rows)) - np.repeat(ends[start:stop] - number - before, number)
        truths = first[rows] + within
        one, other = boxes[rows].T, truth.boxes[truths].T  # [4, pairs]
        width, height = (
            np.minimum(one[axis + 2] + one[axis], other[axis + 2] + other[axis]) - np.maximum(one[axis], other[axis])
            for axis in (0, 1)
        )
        touch = (width > 0) & (height > 0)
        shared = (width * height)[touch]
        area, other_area = (one[2] * one[3])[touch], (other[2] * other[3])[touch]
        pieces.append((rows[touch], truths[touch], shared / (area if crowd else area + other_area - shared)))
        start = stop
    if not pieces:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    rows, truths, ious = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.lexsort((truths, ious, rows))
    return rows[order], truths[order], ious[order]


def _find(pairs: Pairs, *, group: np.ndarray, boxes: int) -> np.ndarray:
    """``[T, D]`` the box that each detection finds; ``group`` ``[D]`` is the same for an image and class.

    In each round one detection of every group chooses, the best first, so that a round is a few array operations.
    """
    found = np.full((len(IOU_THRESHOLDS), len(group)), NONE, dtype=np.int32)
    near = pairs.same_class & (pairs.ious >= IOU_THRESHOLDS[0])
    rows, truths, ious = pairs.detections[near], pairs.truths[near], pairs.ious[near]
    if not len(rows):
        return found
    choosers, first, counts = np.unique(rows, return_index=True, return_counts=True)
    rounds = _rank_within(group[choosers])
    free = np.ones((len(IOU_THRESHOLDS), boxes), dtype=bool)
    for number in range(rounds.max() + 1):
        now = np.flatnonzero(rounds == number)
        count = counts[now]
        starts = np.cumsum(count) - count
        own = np.repeat(first[now] - starts, count) + np.arange(count.sum())  # rows of near pairs
        can = free[:, truths[own]] & (ious[own] >= IOU_THRESHOLDS[:, None])  # [T, pairs]
        # A detection's pairs ascend by IoU: the last that can be is the best.
        best = np.maximum.reduceat(np.where(can, own, NONE), starts, axis=1)  # [T, detections]
        threshold, column = np.nonzero(best != NONE)
        chosen = truths[best[threshold, column]]
        found[threshold, choosers[now[column]]] = chosen
        free[threshold, chosen] = False
    return found
