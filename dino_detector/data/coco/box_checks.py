"""Finds boxes that can't be trained on, and decides whether they are few enough to leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dino_detector.data.coco.box_format import TOLERANCE
from dino_detector.data.coco.columns import Split, every, some
from dino_detector.data.coco.finding_kinds import STOPS, TELLS
from dino_detector.data.coco.findings import Finding

FEW = 0.05
"""largest share of unusable boxes that training leaves out, one box at least; it refuses more"""
LEFT_OUT = "training leaves them out"
FAR = 0.1
"""least median excess of boxes whose images have swapped sides, as a share of the shorter side"""


def check_boxes(split: Split, boxless: Mapping[str, Sequence[int]]) -> list[Finding]:
    """Return findings about unusable boxes, boxes that training clips, and images with swapped sides.

    Training leaves unusable boxes out where they are few, and refuses the file otherwise.

    Args:
        split: boxes in COCO's format.
        boxless: rows of annotations whose bbox can't be read, by the kind of the finding.
    """
    boxes = split.boxes
    total = len(boxes.ids)
    with np.errstate(invalid="ignore"):
        negative = some(boxes.xywh[:, 2:] < 0)
        flat = ~negative & some(boxes.xywh[:, 2:] == 0)
        excess = _excess(split)
        outside = ~negative & ~flat & _lies_outside(split)
        beyond = ~negative & ~flat & ~outside & (excess > TOLERANCE)
    swapped = _swapped_sides(split, outside | beyond, excess)  # [S] positions of images
    if len(swapped) > FEW * len(split.images.ids):  # boxes that do not fit are a consequence
        of_swapped = np.isin(boxes.image, swapped)
        outside, beyond = outside & ~of_swapped, beyond & ~of_swapped
    rows = {
        **{kind: list(rows) for kind, rows in boxless.items()},
        "box_negative": np.flatnonzero(negative).tolist(),
        "box_no_size": np.flatnonzero(flat).tolist(),
        "box_outside": np.flatnonzero(outside).tolist(),
    }
    few = sum(map(len, rows.values())) <= max(1, FEW * total)
    findings = [
        Finding(
            *(kind, split.name, len(of_kind), total, "boxes", [boxes.label(row) for row in of_kind]),
            note=LEFT_OUT if few else "",
            training=TELLS if few else STOPS,
        )
        for kind, of_kind in rows.items()
    ]
    ids = [boxes.label(row) for row in np.flatnonzero(beyond).tolist()]
    note = f"by up to {excess[beyond].max():,.0f} pixels" if ids else ""
    names, images = [split.images.label(index) for index in swapped.tolist()], len(split.images.ids)
    return [
        Finding(
            *("image_sides_swapped", split.name, len(names), images, "images", names, "as their boxes show"),
            training=STOPS if len(names) > FEW * images else None,
        ),
        *findings,
        Finding("box_beyond", split.name, len(ids), total, "boxes", ids, note),
    ]


def _lies_outside(split: Split) -> np.ndarray:
    """Return which boxes lie wholly outside their image, ``[M]`` bool."""
    near, far = _corners(split)
    with np.errstate(invalid="ignore"):
        return some((near >= split.box_image_sizes) | (far <= 0))


def _excess(split: Split) -> np.ndarray:
    """Return by how many pixels boxes reach beyond their image, ``[M]``; NaN where its size is unknown."""
    near, far = _corners(split)
    return np.maximum(*np.maximum(-near, far - split.box_image_sizes).T)


def _corners(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Left top and right bottom corners ``[M, 2]``."""
    return split.boxes.xywh[:, :2], split.boxes.xywh[:, :2] + split.boxes.xywh[:, 2:]


def _swapped_sides(split: Split, misfits: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Return the positions ``[S]`` of images whose boxes fit only after width and height are swapped.

    A box that reaches a little below a wide image fits a tall one by chance. So a swap is believed only where the
    median misfit reaches far outside, and where most affected images agree.

    Args:
        split: boxes in COCO's format.
        misfits: ``[M]`` bool, boxes that reach beyond their image.
        excess: ``[M]`` pixels by which they do.
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
