"""Detections of one image, and their forms in COCO's results format and in supervision."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert

from dino_detector.structures.categories import Categories

if TYPE_CHECKING:
    import supervision


class ImageDetections(NamedTuple):
    """Detections of one image, by descending score.

    Attributes:
        boxes_xyxy: ``[N, 4]`` float, corners in pixels of the original image.
        scores: ``[N]`` float in 0..1.
        labels: ``[N]`` int64, contiguous class labels: positions in the categories of the data set.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor

    def above(self, threshold: float) -> ImageDetections:
        """Return the detections that score at least ``threshold``."""
        return ImageDetections(*(column[self.scores >= threshold] for column in self))

    def best(self, count: int) -> ImageDetections:
        """Return the ``count`` detections with the highest scores, or all if there are fewer."""
        return ImageDetections(*(column[:count] for column in self))

    def best_of_each_class(self, count: int) -> ImageDetections:
        """Return the ``count`` detections of each class with the highest scores, or all of a class if it has fewer."""
        by_class = self.labels.argsort(stable=True)  # [N]
        counts = self.labels.bincount()
        firsts = (counts.cumsum(0) - counts)[self.labels[by_class]]
        rank = torch.empty_like(by_class)
        rank[by_class] = torch.arange(len(by_class)) - firsts
        return ImageDetections(*(column[rank < count] for column in self))

    def to_supervision(self, categories: Categories) -> supervision.Detections:
        """Return ``supervision.Detections`` with category ids, names in ``data["class_name"]``, and ``confidence``."""
        return supervision_detections(self.boxes_xyxy, self.labels, categories, scores=self.scores)


def coco_results(image_id: int, detections: ImageDetections, categories: Categories) -> list[dict[str, Any]]:
    """Return the detections of an image in COCO's results format, in the same order.

    Each is ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`` in plain ints and floats, with the
    category ids of the data set and boxes in pixels, rounded to a thousandth.
    """
    results = []
    columns = (detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist())
    for (left, top, right, bottom), score, label in zip(*columns, strict=True):
        bbox = [round(number, 3) for number in (left, top, right - left, bottom - top)]
        results.append({"image_id": image_id, "category_id": categories.ids[label], "bbox": bbox, "score": score})
    return results


def supervision_detections(
    boxes_xyxy: Tensor, labels: Tensor, categories: Categories, *, scores: Tensor | None = None
) -> supervision.Detections:
    """Return boxes ``[N, 4]`` in pixels and contiguous labels ``[N]`` as ``supervision.Detections``; N may be 0.

    Without ``scores`` ``[N]``, as for ground truth, there is no ``confidence``.
    """
    import numpy as np

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OpenCV .* is not installed")  # boxes do not need it
        import supervision

    found = labels.cpu().numpy()
    return supervision.Detections(
        xyxy=boxes_xyxy.detach().float().cpu().numpy().reshape(-1, 4),
        confidence=None if scores is None else scores.detach().float().cpu().numpy(),
        class_id=np.array(categories.ids, dtype=np.int64)[found],
        data={"class_name": np.array(categories.names, dtype=np.str_)[found]},
    )


def coco_detections(rows: Sequence[dict[str, Any]], categories: Categories) -> supervision.Detections:
    """Return COCO results, or annotations, as ``supervision.Detections``; annotations have no ``confidence``."""
    boxes_xywh = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([categories.label(row["category_id"]) for row in rows], dtype=torch.int64)
    scored = all("score" in row for row in rows)
    scores = torch.tensor([row["score"] for row in rows], dtype=torch.float32) if scored else None
    return supervision_detections(box_convert(boxes_xywh, "xywh", "xyxy"), labels, categories, scores=scores)
