"""Merges the detections of an image's tiles and of the whole image.

Non-maximum suppression over all boxes would keep half an object where the half scores higher than the whole, and would
merge objects that stand close. The views say more than the overlap:

- A detector gives one box for an object, so boxes of one view are different objects. Only boxes of different views are
  compared, and an object has at most one box from each view.
- Two views agree about an object inside their common region, even if one view sees only a part of the object. Boxes
  that a view's border cuts off are compared inside this region.
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
"""IoU from which two boxes are one object, as in PASCAL VOC and COCO's AP50; 0.3 to 0.6 give the same AP"""
BORDER = 0.01
"""largest distance of a box that touches a view's border, as a share of the side; edges are off by a pixel or two"""


class _Seen(NamedTuple):
    """All N detections of an image, by falling score.

    Attributes:
        detections: boxes in pixels of the image, scores and labels.
        view: ``[N]`` int64, the view of each detection.
        cut: ``[N]`` bool, whether the box touches a border of its view inside the image, so that a part of the object
            may lie beyond.
    """

    detections: ImageDetections
    view: Tensor
    cut: Tensor


def merge_views(views: Sequence[Window], found: Sequence[ImageDetections]) -> ImageDetections:
    """Return every object once, by falling score.

    The best detection represents at most one detection of each other view: the detection of its class with the highest
    IoU of at least 0.5. Where a border cuts off one of the two boxes, the IoU is taken inside the common region of the
    views. A represented detection with an uncut box gives its box to a best detection with a cut box; without an uncut
    box the union of the boxes is taken.

    Args:
        views: the whole image first.
        found: the detections of each view, in its pixels.

    Returns:
        Detections in pixels of the image.
    """
    if len(views) == 1:
        return found[0]
    seen = _in_image(views, found)
    boxes_xyxy, scores, labels = seen.detections
    twins = _twins(views, seen)
    cut, view = seen.cut.tolist(), seen.view.tolist()
    free = [True] * len(cut)

    def claim(one: int, *, besides: list[int]) -> list[int]:
        """Claim the free detection most like ``one`` in each view without a detection in ``besides``."""
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
    """Return for each detection the detections of other views that may be the same object, with their IoU."""
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
            # Two boxes outside the common region have an IoU of 0 / 0 = NaN there, and NaN >= 0.5 is false.
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
    """Return the views as boxes ``[V, 4]`` float, xyxy."""
    return torch.tensor([[left, top, left + width, top + height] for left, top, width, height in views]).float()


def _clipped(boxes_xyxy: Tensor, region_xyxy: Tensor) -> Tensor:
    """Clip boxes to a region ``[4]``; boxes outside the region lose their area."""
    return boxes_xyxy.clamp(min=region_xyxy[:2].repeat(2), max=region_xyxy[2:].repeat(2))
