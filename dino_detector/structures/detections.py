"""What the detector found in one image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    import supervision

    from dino_detector.structures.categories import Categories


class ImageDetections(NamedTuple):
    """The detections of one image, by falling score.

    Attributes:
        boxes_xyxy: ``[N, 4]`` float, corners in pixels of the original image.
        scores: ``[N]`` float in 0..1.
        labels: ``[N]`` int64, contiguous class labels: positions in the data set's categories.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor

    def above(self, threshold: float) -> ImageDetections:
        """Those that score at least ``threshold``."""
        return ImageDetections(*(column[self.scores >= threshold] for column in self))

    def best(self, count: int) -> ImageDetections:
        """The ``count`` of the highest scores, or all where there are fewer."""
        return ImageDetections(*(column[:count] for column in self))

    def best_of_each_class(self, count: int) -> ImageDetections:
        """Of each class the ``count`` of the highest scores, or all where there are fewer."""
        by_class = self.labels.argsort(stable=True)  # [N]
        counts = self.labels.bincount()
        firsts = (counts.cumsum(0) - counts)[self.labels[by_class]]
        rank = torch.empty_like(by_class)
        rank[by_class] = torch.arange(len(by_class)) - firsts
        return ImageDetections(*(column[rank < count] for column in self))

    def to_supervision(self, categories: Categories) -> supervision.Detections:
        """The same boxes as ``supervision.Detections``, with the data set's own category ids and names.

        ``class_id`` holds category ids, ``data["class_name"]`` the names, ``confidence`` the scores.
        """
        return supervision_detections(self.boxes_xyxy, self.labels, categories, scores=self.scores)


def supervision_detections(
    boxes_xyxy: Tensor, labels: Tensor, categories: Categories, *, scores: Tensor | None = None
) -> supervision.Detections:
    """Boxes ``[N, 4]`` in pixels and contiguous labels ``[N]`` as ``supervision.Detections``; N may be 0.

    Ground truth has no ``scores`` ``[N]``, and so no ``confidence``.
    """
    import numpy as np

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OpenCV .* is not installed")  # boxes do not need it
        import supervision

    positions = labels.tolist()
    return supervision.Detections(
        xyxy=boxes_xyxy.detach().float().cpu().numpy().reshape(-1, 4),
        confidence=None if scores is None else scores.detach().float().cpu().numpy(),
        class_id=np.array([categories.id(label) for label in positions], dtype=np.int64),
        data={"class_name": np.array([categories.name(label) for label in positions], dtype=np.str_)},
    )


def coco_detections(rows: Sequence[dict[str, Any]], categories: Categories) -> supervision.Detections:
    """COCO results as ``supervision.Detections``; or annotations, which have no score, and so no ``confidence``."""
    boxes_xywh = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
    scored = all("score" in row for row in rows)
    return supervision_detections(
        torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1),
        torch.tensor([categories.label(row["category_id"]) for row in rows], dtype=torch.int64),
        categories,
        scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32) if scored else None,
    )
