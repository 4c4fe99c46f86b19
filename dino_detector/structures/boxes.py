"""Box formats and overlaps, thin on `torchvision.ops`."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Centre and size to corners, ``[..., 4]`` to ``[..., 4]``."""
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Corners to centre and size, ``[..., 4]`` to ``[..., 4]``."""
    return box_convert(boxes_xyxy, "xyxy", "cxcywh")


def iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """IoU of boxes that broadcast against each other, ``[..., 4]`` each, in 0..1; boxes of no area have 0.

    torchvision's `box_iou` has all pairs of two plain lists.
    """
    intersection = _intersection(boxes_xyxy, others_xyxy)
    union = _area(boxes_xyxy) + _area(others_xyxy) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalized_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Generalized IoU of boxes that broadcast against each other, in (-1, 1].

    torchvision has the pairs of two plain lists (`torchvision.ops.generalized_box_iou`); matching and losses need
    any leading dimensions. For boxes of no area both the IoU and the enclosing box count as empty, not as NaN.

    Args:
        boxes_xyxy: ``[..., 4]``, corners.
        others_xyxy: ``[..., 4]``, corners.

    Returns:
        ``[...]``, the broadcast shape without its last dimension.

    Source: Rezatofighi et al., "Generalized Intersection over Union", https://arxiv.org/abs/1902.09630
    """
    intersection = _intersection(boxes_xyxy, others_xyxy)
    union = _area(boxes_xyxy) + _area(others_xyxy) - intersection
    (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) = boxes_xyxy.unbind(-1), others_xyxy.unbind(-1)
    hull_width = torch.maximum(right, right_2) - torch.minimum(left, left_2)
    hull = hull_width * (torch.maximum(bottom, bottom_2) - torch.minimum(top, top_2))
    smallest = torch.finfo(hull.dtype).tiny
    return intersection / union.clamp(min=smallest) - (hull - union) / hull.clamp(min=smallest)


def _intersection(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    (left, top, right, bottom), (left_2, top_2, right_2, bottom_2) = boxes_xyxy.unbind(-1), others_xyxy.unbind(-1)
    width = (torch.minimum(right, right_2) - torch.maximum(left, left_2)).clamp(min=0)
    return width * (torch.minimum(bottom, bottom_2) - torch.maximum(top, top_2)).clamp(min=0)


def _area(boxes_xyxy: Tensor) -> Tensor:
    left, top, right, bottom = boxes_xyxy.unbind(-1)
    return (right - left) * (bottom - top)
