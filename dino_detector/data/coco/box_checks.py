"""Finds boxes that can't be trained on, and decides whether they are few enough to leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dino_detector.data.coco.box_format import TOLERANCE
from dino_detector.data.coco.columns import Split, every, some
from dino_detector.data.coco.findings import STOPS, WARNS, Finding

FEW = 0.05
"""largest share of unusable boxes that training leaves out, one box at least; it refuses more"""
LEFT_OUT = "training leaves them out"
FAR = 0.1
"""least median excess of boxes whose images have swapped sides, as a share of the shorter side"""


def check_boxes(split: Split, boxless: Mapping[str, Sequence[int]]) -> list[Finding]:
    """Return findings about unusable boxes, boxes that training clips, and images with swapped sides.

    Training leaves unusable boxes out if they are few, and refuses the file otherwise.

    Args:
        split: boxes in COCO's format.
        boxless: rows of annotations whose bbox can't be read, by the kind of the finding.
    """
    boxes, near, far = split.boxes, *_corners(split)
    with np.errstate(invalid="ignore"):
        negative = some(boxes.xywh[:, 2:] < 0)
        flat = ~negative & some(boxes.xywh[:, 2:] == 0)
        excess = np.maximum(*np.maximum(-near, far - split.box_image_sizes).T)  # [M] pixels beyond the image
        outside = ~negative & ~flat & some((near >= split.box_image_sizes) | (far <= 0))
        beyond = ~negative & ~flat & ~outside & (excess > TOLERANCE)
    swapped = _swapped_sides(split, outside | beyond, excess)  # [S] positions of images
    many_swapped = len(swapped) > FEW * len(split.images.ids)
    if many_swapped:  # boxes that do not fit are a consequence
        of_swapped = np.isin(boxes.image, swapped)
        outside, beyond = outside & ~of_swapped, beyond & ~of_swapped
    masks = {"box_negative": negative, "box_no_size": flat, "box_outside": outside}
    rows = {**boxless, **{kind: np.flatnonzero(mask) for kind, mask in masks.items()}}
    few = sum(map(len, rows.values())) <= max(1, FEW * len(boxes.ids))
    note, effect = (LEFT_OUT, WARNS) if few else ("", STOPS)
    how_far = f"by up to {excess[beyond].max():,.0f} pixels" if beyond.any() else ""
    return [
        split.find_images(
            "image_sides_swapped", swapped, "as their boxes show", training=STOPS if many_swapped else None
        ),
        *(split.find_boxes(kind, of_kind, note, training=effect) for kind, of_kind in rows.items()),
        split.find_boxes("box_beyond", beyond, how_far),
    ]


def _corners(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the left top and right bottom corners ``[M, 2]``."""
    return split.boxes.xywh[:, :2], split.boxes.xywh[:, :2] + split.boxes.xywh[:, 2:]


def _swapped_sides(split: Split, misfits: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Return the positions ``[S]`` of images whose boxes fit only after width and height are swapped.

    A box that reaches a little below a wide image fits a tall one by chance. So a swap is believed only if the median
    misfit reaches far outside, and if most affected images agree.

    Args:
        split: boxes in COCO's format.
        misfits: ``[M]`` bool, boxes that reach beyond their image.
        excess: ``[M]`` number of pixels beyond the image.
    """
    boxes, sizes = split.boxes, split.box_image_sizes
    none = np.zeros(0, np.int64)
    affected = np.unique(boxes.image[misfits])
    if not len(affected) or np.median(excess[misfits] / sizes[misfits].min(axis=1)) < FAR:
        return none
    near, far = _corners(split)
    with np.errstate(invalid="ignore"):
        bad = ~every((near >= -TOLERANCE) & (far <= sizes[:, ::-1] + TOLERANCE))
    swapped = np.setdiff1d(affected, boxes.image[bad])
    swapped = swapped[split.images.sizes[swapped, 0] != split.images.sizes[swapped, 1]]
    return swapped if len(swapped) >= 0.8 * len(affected) else none
