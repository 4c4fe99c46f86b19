"""Detections of several views of an image, its tiles and the whole, as those of one image.

Non-maximum suppression of all boxes would keep half an object where it scores higher than the whole, and merge objects
that stand close. Views tell more than overlap does. Boxes of one view are different objects, or it would not have given
both, so only boxes of different views are compared, and an object has at most one box of each. And views that see one
object agree about it where both look, even if one sees only a part of it, so boxes that the border of a view cuts off
are compared within what the views share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from dino_detector.data.windows import Window
from dino_detector.structures.detections import ImageDetections

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

    The best detection stands for those of other views that are the same object: in each view the one of its class whose
    IoU with it is highest, and at least 0.5; within what both views see, if a border cuts off one of the two boxes.
    Where its own box is cut off, the best of the others that is not gives the box, or else the boxes together.
    Detections of the same view never stand for each other.

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

    def claim(one: int, *, besides: list[int]) -> list[int]:
        """The free detections most like ``one``, of each view that none of ``besides`` is of; free no more."""
        represented = {view[other] for other in besides}
        claimed = []
        for twin, _ in sorted(twins[one], key=lambda pair: (-pair[1], pair[0])):
            if free[twin] and view[twin] not in represented:
                represented.add(view[twin])
                claimed.append(twin)
                free[twin] = False
        return sorted(claimed)

    kept, boxes = [], []
    for best in range(len(cut)):
        if not free[best]:
            continue
        free[best] = False
        same = [best, *claim(best, besides=[best])]
        complete = next((one for one in same if not cut[one]), None)
        if complete is None:
            parts = boxes_xyxy[same]
            boxes.append(torch.cat([parts[:, :2].amin(0), parts[:, 2:].amax(0)]))
        else:
            claim(complete, besides=same)
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


def _twins(views: Sequence[Window], seen: _Seen) -> list[list[tuple[int, float]]]:
    """For each detection those of other views that are the same object, with their IoU."""
    boxes_xyxy, _, labels = seen.detections
    members = seen.view.argsort(stable=True).split(seen.view.bincount(minlength=len(views)).tolist())
    corners = _corners(views)
    occupied = torch.tensor([number for number, of_view in enumerate(members) if len(of_view)])
    twins: list[list[tuple[int, float]]] = [[] for _ in labels]
    for place, first in enumerate(occupied.tolist()):
        others = occupied[place + 1 :]
        starts = torch.maximum(corners[first, :2], corners[others, :2])
        ends = torch.minimum(corners[first, 2:], corners[others, 2:])
        meets = (starts < ends).all(dim=1)
        shared = torch.cat([starts, ends], dim=1)[meets]
        for second, shared_xyxy in zip(others[meets].tolist(), shared, strict=True):
            ours, theirs = members[first], members[second]
            # two boxes that both miss what is shared have an IoU of 0 / 0 there, which is no agreement
            ious = torch.where(
                seen.cut[ours, None] | seen.cut[theirs],
                box_iou(_clipped(boxes_xyxy[ours], shared_xyxy), _clipped(boxes_xyxy[theirs], shared_xyxy)),
                box_iou(boxes_xyxy[ours], boxes_xyxy[theirs]),
            )
            rows, columns = ((ious >= SAME_OBJECT_IOU) & (labels[ours, None] == labels[theirs])).nonzero(as_tuple=True)
            pairs = zip(ours[rows].tolist(), theirs[columns].tolist(), ious[rows, columns].tolist(), strict=True)
            for one, other, overlap in pairs:
                twins[one].append((other, overlap))
                twins[other].append((one, overlap))
    return twins


def _corners(views: Sequence[Window]) -> Tensor:
    """``[V, 4]`` float, xyxy."""
    return torch.tensor([[left, top, left + width, top + height] for left, top, width, height in views]).float()


def _clipped(boxes_xyxy: Tensor, region_xyxy: Tensor) -> Tensor:
    """What lies in a region ``[4]``; boxes outside it lose their area."""
    return boxes_xyxy.clamp(min=region_xyxy[:2].repeat(2), max=region_xyxy[2:].repeat(2))
