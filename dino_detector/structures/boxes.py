"""IoU of boxes with any leading dimensions.

The functions of `torchvision.ops` pair two lists of boxes, and return NaN for two boxes without area.
"""

from __future__ import annotations

import torch
from torch import Tensor


def iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Return the IoU ``[...]`` in 0..1 of boxes ``[..., 4]`` that broadcast; the IoU of two boxes without area is 0."""
    intersection, union = _intersection_and_union(boxes_xyxy, others_xyxy)
    return _ratio(intersection, union)


def generalized_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Return the generalized IoU ``[...]`` in -1..1 of boxes ``[..., 4]`` that broadcast against each other.

    Source: Rezatofighi et al., "Generalized Intersection over Union", https://arxiv.org/abs/1902.09630
    """
    intersection, union = _intersection_and_union(boxes_xyxy, others_xyxy)
    (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) = boxes_xyxy.unbind(-1), others_xyxy.unbind(-1)
    hull_width = torch.maximum(right, right_2) - torch.minimum(left, left_2)
    hull = hull_width * (torch.maximum(bottom, bottom_2) - torch.minimum(top, top_2))
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def _intersection_and_union(boxes_xyxy: Tensor, others_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) = boxes_xyxy.unbind(-1), others_xyxy.unbind(-1)
    width = (torch.minimum(right, right_2) - torch.maximum(left, left_2)).clamp(min=0)
    intersection = width * (torch.minimum(bottom, bottom_2) - torch.maximum(top, top_2)).clamp(min=0)
    union = (right - left) * (bottom - top) + (right_2 - left_2) * (bottom_2 - top_2) - intersection
    return intersection, union


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide, with 0 / 0 = 0."""
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)
