"""Detections of several views of an image, its tiles and the whole, as those of one image.

Non-maximum suppression of all boxes would keep half an object where it scores higher than the whole, and merge objects
that stand close. Views tell more than overlap does. Boxes of one view are different objects, or it would not have given
both, so only boxes of different views are compared. And views that see one object agree about it where both look, even
if one sees only a part of it, so boxes are compared within what their views share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from dino_detector.data.windows import Window
from dino_detector.detections import ImageDetections

SAME_OBJECT_IOU = 0.5
"""from which two boxes are one object, as in PASCAL VOC and COCO's AP50; measured, 0.3 to 0.6 give the same AP"""
BORDER = 0.01
"""share of a view's side within which a box counts as touching its border: edges are found to a pixel or two of a few
hundred"""


class _Seen(NamedTuple):
    """All detections of an image, by falling score: boxes in its pixels, and the view that each is of.

    Attributes:
        detections: ``N`` of them.
        view: ``[N]`` int64.
        cut: ``[N]`` bool, the box touches a border of its view that is none of the image: part of the object may lie
            beyond.
    """

    detections: ImageDetections
    view: Tensor
    cut: Tensor


def merge_views(views: Sequence[Window], found: Sequence[ImageDetections]) -> ImageDetections:
    """Every object once, by falling score.

    The best detection stands for all detections of other views that are the same object, those of its class whose boxes
    have an IoU of 0.5 with it within what both views see. Where its own box is cut off by a border of its view, the
    best of the others that is not gives the box, or else the boxes together. Detections of the same view never stand
    for each other.

    Args:
        views: the whole image first.
        found: the detections of each view, in its pixels.

    Returns:
        Detections in pixels of the image, however many.
    """
    if len(views) == 1:
        return found[0]
    seen = _in_image(views, found)
    boxes_xyxy, scores, labels = seen.detections
    twins = _twins(views, seen)
    cut, view = seen.cut.tolist(), seen.view.tolist()
    free = [True] * len(cut)

    def claim(one: int, *, besides: int) -> list[int]:
        """Free detections that are the same object as ``one``, of any view but that of ``besides``; free no more."""
        claimed = [twin for twin in sorted(twins[one]) if free[twin] and view[twin] != view[besides]]
        for twin in claimed:
            free[twin] = False
        return claimed

    kept, boxes = [], []
    for best in range(len(cut)):
        if not free[best]:
            continue
        free[best] = False
        same = [best, *claim(best, besides=best)]
        complete = next((one for one in same if not cut[one]), None)
        if complete is None:
            best_of_view = {view[one]: one for one in reversed(same)}
            parts = boxes_xyxy[list(best_of_view.values())]
            boxes.append(torch.cat([parts[:, :2].amin(0), parts[:, 2:].amax(0)]))
        else:
            claim(complete, besides=best)
            boxes.append(boxes_xyxy[complete])
        kept.append(best)
    return ImageDetections(torch.stack(boxes) if boxes else boxes_xyxy, scores[kept], labels[kept])


def _in_image(views: Sequence[Window], found: Sequence[ImageDetections]) -> _Seen:
    corners = _corners(views)
    view = torch.arange(len(views)).repeat_interleave(torch.tensor([len(one.scores) for one in found]))
    boxes_xyxy = torch.cat([one.boxes_xyxy for one in found]) + corners[view, :2].repeat(1, 2)
    scores = torch.cat([one.scores for one in found])
    labels = torch.cat([one.labels for one in found])
    sides = corners[view]
    reach = BORDER * (sides[:, 2:] - sides[:, :2]).repeat(1, 2)
    cut = ((sides != corners[0]) & ((boxes_xyxy - sides).abs() <= reach)).any(dim=1)
    order = scores.argsort(descending=True, stable=True)
    return _Seen(ImageDetections(boxes_xyxy[order], scores[order], labels[order]), view[order], cut[order])


def _twins(views: Sequence[Window], seen: _Seen) -> list[list[int]]:
    """For each detection those of other views that are the same object."""
    boxes_xyxy, _, labels = seen.detections
    corners = _corners(views)
    members = [(seen.view == number).nonzero().flatten() for number in range(len(views))]
    twins: list[list[int]] = [[] for _ in labels]
    for first, second in (box_iou(corners, corners) > 0).triu(diagonal=1).nonzero().tolist():
        shared_xyxy = torch.cat(
            [
                torch.maximum(corners[first, :2], corners[second, :2]),
                torch.minimum(corners[first, 2:], corners[second, 2:]),
            ]
        )
        ours, theirs = members[first], members[second]
        ious = box_iou(_clipped(boxes_xyxy[ours], shared_xyxy), _clipped(boxes_xyxy[theirs], shared_xyxy))
        # two boxes that both miss what is shared have an IoU of 0 / 0, which is no agreement
        same = (ious >= SAME_OBJECT_IOU) & (labels[ours, None] == labels[theirs])
        rows, columns = same.nonzero(as_tuple=True)
        for one, other in zip(ours[rows].tolist(), theirs[columns].tolist(), strict=True):
            twins[one].append(other)
            twins[other].append(one)
    return twins


def _corners(views: Sequence[Window]) -> Tensor:
    """``[V, 4]`` float, xyxy."""
    return torch.tensor([[left, top, left + width, top + height] for left, top, width, height in views]).float()


def _clipped(boxes_xyxy: Tensor, region_xyxy: Tensor) -> Tensor:
    """What lies in a region ``[4]``; boxes outside it lose their area."""
    return boxes_xyxy.clamp(min=region_xyxy[:2].repeat(2), max=region_xyxy[2:].repeat(2))
