"""Evidence of detections for and against each label of an image, and objects that are detected but not labelled.

Northcutt, Jiang, Chuang: Confident Learning. JAIR 2021, arXiv:1911.00068 (labels against predictions of models that did
not train on them). Tkachenko, Thyagarajan, Mueller: ObjectLab. 2023, arXiv:2309.00832 (overlooked, badly located and
swapped labels). hotcoco's ``COCOeval.image_diagnostics`` names labels that a confident detection contradicts in class,
and confident detections without a label, at a fixed score. It neither judges the other labels nor finds loose and
double ones, so the evidence is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import from_numpy
from torchvision.ops import box_iou

SAME_OBJECT = 0.5
"""least IoU of two boxes of one object"""
NEAR = 0.1
"""least IoU of a label and a detection of a part of its object"""
LEAST_SCORE = 0.05
"""least score of a detection that can be an object without a label"""
LOWEST = 1e-3
"""score in place of the score of a detection that is not there"""


class Boxes(NamedTuple):
    """The boxes of one image: corners ``[N, 4]`` in pixels, classes ``[N]`` int64, and scores ``[N]`` of detections."""

    xyxy: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def at(self, rows: np.ndarray) -> Boxes:
        """Return the boxes at some positions, or under a mask ``[N]``."""
        return Boxes(self.xyxy[rows], self.classes[rows], self.scores[rows])


@dataclass(frozen=True)
class LabelEvidence:
    """Evidence about the N labels of an image.

    Attributes:
        features: ``[N, F]`` float64, numbers about -5..5.
        detections: ``[N]`` int64, the detection that shows the object best, or -1.
        twins: ``[N]`` int64, the label of the same class that overlaps most, or -1.
        weaker: ``[N]`` bool, the detections agree with the twin more.
    """

    features: np.ndarray
    detections: np.ndarray
    twins: np.ndarray
    weaker: np.ndarray


@dataclass(frozen=True)
class UnlabelledEvidence:
    """Evidence about the M objects that are detected and perhaps not labelled.

    Attributes:
        features: ``[M, G]`` float64.
        detections: ``[M]`` int64, positions of the detections.
    """

    features: np.ndarray
    detections: np.ndarray


def logit(score: np.ndarray) -> np.ndarray:
    """Return the log-odds of scores; scores of 0 and 1 count as 0.001 and 0.999."""
    bounded = np.clip(score, LOWEST, 1 - LOWEST)
    return np.log(bounded / (1 - bounded))


def ious(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU ``[N, M]`` of boxes ``[N, 4]`` and ``[M, 4]``."""
    return box_iou(from_numpy(np.asarray(one, np.float64)), from_numpy(np.asarray(other, np.float64))).numpy()


def label_evidence(labels: Boxes, found: Boxes, *, size: tuple[int, int]) -> LabelEvidence:
    """Compare each label of an image with the detections and with the other labels.

    Args:
        labels: N labels; their scores are not used.
        found: detections.
        size: height and width of the image in pixels.
    """
    count = len(labels.classes)
    overlap = ious(labels.xyxy, found.xyxy)  # [N, D]
    same = labels.classes[:, None] == found.classes
    scores = found.scores[None]
    covers = overlap >= SAME_OBJECT

    def best(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.max(np.where(mask, values, 0.0), axis=1, initial=0.0)

    shown = np.where(overlap >= NEAR, np.sqrt(scores) * overlap, 0.0)
    chosen = shown.argmax(axis=1) if shown.shape[1] else np.zeros(count, np.int64)
    rows = np.arange(count)
    there = shown[rows, chosen] > 0 if shown.shape[1] else np.zeros(count, bool)
    best_iou = np.where(there, overlap[rows, chosen], 0.0) if shown.shape[1] else np.zeros(count)
    best_score = np.where(there, found.scores[chosen], 0.0) if shown.shape[1] else np.zeros(count)
    weights = np.where((overlap >= NEAR) & same, scores * overlap, 0.0)
    located = (weights * overlap).sum(axis=1) / np.maximum(weights.sum(axis=1), LOWEST)

    between = ious(labels.xyxy, labels.xyxy)
    np.fill_diagonal(between, 0.0)
    alike = np.where(labels.classes[:, None] == labels.classes, between, 0.0)
    twin = alike.argmax(axis=1) if count else np.zeros(0, np.int64)
    twin_iou = alike[rows, twin] if count else np.zeros(0)
    agreement = best(same, np.sqrt(scores) * overlap)
    order = np.argsort(np.argsort(-agreement, kind="stable"))  # of equals, the later one is weaker
    weaker = (twin_iou > 0) & (order > order[twin])
    sides = (labels.xyxy[:, 2:] - labels.xyxy[:, :2]) / np.array([size[1], size[0]])
    features = np.column_stack(
        [
            logit(best(same & covers, scores)),
            logit(best(~same & covers, scores)),
            logit(best(same & (overlap >= NEAR), scores)),
            logit(best(~same & (overlap >= NEAR), scores)),
            4 * best_iou,
            logit(best_score),
            4 * located,
            4 * best(same & (scores >= 0.2), overlap),
            4 * best(scores >= 0.2, overlap),
            4 * twin_iou,
            4 * twin_iou * weaker,
            4 * between.max(axis=1, initial=0.0),
            np.log(np.maximum(sides.prod(axis=1), 1e-6)) / 2,
        ]
    )
    return LabelEvidence(features, np.where(there, chosen, -1), np.where(twin_iou > 0, twin, -1), weaker)


def unlabelled_evidence(labels: Boxes, found: Boxes, *, size: tuple[int, int]) -> UnlabelledEvidence:
    """Find detections that no label covers; of detections of one object, the one with the highest score counts."""
    order = np.argsort(-found.scores, kind="stable")
    overlap = ious(found.xyxy, labels.xyxy)  # [D, N]
    nearest = overlap.max(axis=1, initial=0.0)
    between = ious(found.xyxy, found.xyxy)
    kept: list[int] = []
    for row in order.tolist():
        if found.scores[row] < LEAST_SCORE or nearest[row] >= SAME_OBJECT:
            continue
        if all(between[row, other] < SAME_OBJECT for other in kept):
            kept.append(row)
    chosen = np.array(kept, np.int64)
    same = np.where(found.classes[:, None] == labels.classes, overlap, 0.0).max(axis=1, initial=0.0)
    # A detection of an object that another detection already assigns to a label is probably a second box of it.
    sides = (found.xyxy[:, 2:] - found.xyxy[:, :2]) / np.array([size[1], size[0]])
    crowding = np.where(between >= NEAR, found.scores[None], 0.0)
    np.fill_diagonal(crowding, 0.0)
    features = np.column_stack(
        [
            logit(found.scores),
            4 * nearest,
            4 * same,
            4 * crowding.max(axis=1, initial=0.0),
            np.log(np.maximum(sides.prod(axis=1), 1e-6)) / 2,
        ]
    )
    return UnlabelledEvidence(features[chosen], chosen)
