"""The views of an image, which are the whole image and overlapping tiles, and the merging of their detections.

Non-maximum suppression over all boxes would keep half an object where the half scores higher than the whole, and would
merge objects that stand close. The views say more than the overlap:

- A detector gives one box for an object, so boxes of one view are different objects. Only boxes of different views are
  compared, and an object has at most one box from each view.
- Two views agree about an object inside their common region, even if one view sees only a part of the object. Boxes
  that a view's border cuts off are compared inside this region.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from dino_detector.config import TilingConfig
from dino_detector.data.windows import Window
from dino_detector.errors import InputError
from dino_detector.structures.detections import ImageDetections

MOST_TILES = 10_000
"""largest number of tiles of an image; more usually means that tile_size was given as a number of tiles"""
SAME_OBJECT_IOU = 0.5
"""IoU from which two boxes are one object, as in PASCAL VOC and COCO's AP50; 0.3 to 0.6 give the same AP"""
BORDER = 0.01
"""largest distance of a box that touches a view's border, as a share of the side; edges are off by a pixel or two"""


def views_of(height: int, width: int, tiling: TilingConfig) -> list[Window]:
    """Return the whole image, and its tiles row by row; an image that fits in one tile has no tiles.

    All tiles have the size of the settings, or the image's size where it is smaller, and lie inside the image. They are
    spread evenly, so neighbours share at least ``tile_overlap`` of their side.

    Raises:
        InputError: for more than 10,000 tiles.
    """
    whole = Window(0, 0, width, height)
    if tiling.tile_size is None:
        return [whole]
    tile_height, tile_width = min(tiling.tile_size.height, height), min(tiling.tile_size.width, width)
    tops = _starts(height, tile_height, tiling.tile_overlap)
    lefts = _starts(width, tile_width, tiling.tile_overlap)
    if len(tops) * len(lefts) > MOST_TILES:
        raise InputError(
            f"tile_size {tiling.tile_size} and tile_overlap {tiling.tile_overlap:g} cut an image of {height} x {width} "
            f"pixels (height x width) into {len(tops) * len(lefts):,} tiles; give a larger tile_size, in pixels"
        )
    tiles = [Window(left, top, tile_width, tile_height) for top in tops for left in lefts]
    return [whole] if len(tiles) == 1 else [whole, *tiles]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return the first pixel of each tile along a side of ``length`` pixels."""
    stride = max(1, tile - math.ceil(tile * overlap))
    steps = math.ceil((length - tile) / stride)
    return [round(step * (length - tile) / steps) for step in range(steps + 1)] if steps else [0]


def merge_views(views: Sequence[Window], found: Sequence[ImageDetections]) -> ImageDetections:
    """Return every object once, by descending score, in pixels of the image.

    The best detection represents at most one detection of each other view: the detection of its class with the highest
    IoU of at least 0.5. Where a border cuts off one of the two boxes, the IoU is taken inside the common region of the
    views. A represented detection with an uncut box gives its box to a best detection with a cut box; without an uncut
    box the union of the boxes is taken.

    Args:
        views: the whole image first.
        found: the detections of each view, in its pixels.
    """
    if len(views) == 1:
        return found[0]
    corners = torch.tensor([[left, top, left + width, top + height] for left, top, width, height in views]).float()
    of_view = torch.arange(len(views)).repeat_interleave(torch.tensor([len(one.scores) for one in found]))  # [N]
    boxes_xyxy, scores, labels = (torch.cat(column) for column in zip(*found, strict=True))
    sides = corners[of_view]
    boxes_xyxy = boxes_xyxy + sides[:, :2].repeat(1, 2)
    touches = (boxes_xyxy - sides).abs() <= BORDER * (sides[:, 2:] - sides[:, :2]).repeat(1, 2)
    is_cut = (touches & (sides != corners[0])).any(dim=1)  # by a border inside the image
    order = scores.argsort(descending=True, stable=True)
    seen = ImageDetections(boxes_xyxy[order], scores[order], labels[order])
    twins = _twins(corners, seen, of_view[order], is_cut[order])
    view, cut = of_view[order].tolist(), is_cut[order].tolist()
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
            parts = seen.boxes_xyxy[same]
            boxes.append(torch.cat([parts[:, :2].amin(0), parts[:, 2:].amax(0)]))
        else:
            claim(complete, besides=same)
            boxes.append(seen.boxes_xyxy[complete])
        kept.append(best)
    return ImageDetections(torch.stack(boxes) if boxes else boxes_xyxy, seen.scores[kept], seen.labels[kept])


def _twins(corners: Tensor, seen: ImageDetections, view: Tensor, cut: Tensor) -> list[list[tuple[int, float]]]:
    """Return for each detection the detections of other views that may be the same object, with their IoU.

    Args:
        corners: ``[V, 4]``, the views as boxes xyxy.
        seen: N detections in pixels of the image.
        view: ``[N]`` int64, the view of each detection.
        cut: ``[N]`` bool, whether a border of the view may cut off a part of the object.
    """
    boxes_xyxy, _, labels = seen
    members = view.argsort(stable=True).split(view.bincount(minlength=len(corners)).tolist())
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
            low, high = shared_xyxy[:2].repeat(2), shared_xyxy[2:].repeat(2)
            inside = (boxes_xyxy[one].clamp(low, high) for one in (ours, theirs))
            whole = box_iou(boxes_xyxy[ours], boxes_xyxy[theirs])
            ious = torch.where(cut[ours, None] | cut[theirs], box_iou(*inside), whole)
            rows, columns = ((ious >= SAME_OBJECT_IOU) & (labels[ours, None] == labels[theirs])).nonzero(as_tuple=True)
            pairs = zip(ours[rows].tolist(), theirs[columns].tolist(), ious[rows, columns].tolist(), strict=True)
            for one, other, overlap in pairs:
                twins[one].append((other, overlap))
                twins[other].append((one, overlap))
    return twins
