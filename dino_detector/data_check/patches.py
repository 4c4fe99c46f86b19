"""What of the boxes the patch grid of the backbone can tell apart."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from dino_detector.config import ImageSize
from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding

PATCH = 14
"""pixels of a side of a patch of DINOv2"""
EDGES = (1, 2, 4, 8, 16)
"""limits between the columns of the table of sizes, in patches"""
SMALL_SHARE = 0.05
"""share of the boxes below one patch from which it is worth a larger input"""
LARGER = (1.25, 1.5, 2.0, 2.5, 3.0)
"""factors of the input size to advise"""
ENOUGH = 0.02
"""share of the boxes below one patch that no larger input is advised for"""

STRETCHED = 2.0
"""times as much as the other that one side of an image is squeezed, from which stretching harms"""
STRETCHED_SHARE = 0.05
"""share of such images from which another shape is worth it"""


class PatchGrid(NamedTuple):
    """The input of the training: its size, and how an image is brought to it."""

    image_size: ImageSize
    resize_mode: Literal["stretch", "letterbox"]

    def scales(self, sizes: np.ndarray) -> np.ndarray:
        """``[I + 1, 2]`` input pixels per pixel of an image, in x and y, of images of ``sizes`` ``[I, 2]`` (width,
        height); the last row, for position -1, is NaN."""
        known = np.vstack([sizes, [np.nan, np.nan]])
        scales = np.array([self.image_size.width, self.image_size.height]) / known
        if self.resize_mode == "letterbox":
            scales[:] = scales.min(axis=1, keepdims=True)
        return scales

    def sides(self, split: Split) -> np.ndarray:
        """``[M]`` side of each box in patches: the square root of its area once the image is resized."""
        widths_heights = split.clipped_xyxy[:, 2:] - split.clipped_xyxy[:, :2]
        resized = widths_heights * self.scales(split.images.sizes)[split.boxes.image]
        return np.sqrt(resized.clip(min=0).prod(axis=1)) / PATCH

    @property
    def words(self) -> str:
        """The grid in words."""
        rows, columns = (side // PATCH for side in self.image_size)
        return f"--image_size {self.image_size} --resize_mode {self.resize_mode}, {rows} x {columns} patches"


class SizeRow(NamedTuple):
    """Box sizes of a split: shares in the columns between `EDGES`, and the median, in patches."""

    shares: list[float]
    median: float


def size_row(sides: np.ndarray) -> SizeRow:
    """Of sides ``[N]``, N > 0, in patches."""
    counts = np.bincount(np.searchsorted(EDGES, sides, side="right"), minlength=len(EDGES) + 1)
    return SizeRow((counts / len(sides)).tolist(), float(np.median(sides)))


def check_sizes(split: Split, grid: PatchGrid, sides: np.ndarray) -> list[Finding]:
    """Boxes below one patch, where they are many, and the input size that would help."""
    mask = split.trained & (sides < 1)
    small, total = int(mask.sum()), int(split.trained.sum())
    if not total or small / total < SMALL_SHARE:
        return []
    ids = [split.boxes.label(row) for row in np.flatnonzero(mask).tolist()]
    fix = larger_input(sides[split.trained], grid)
    return [Finding("box_below_patch", split.name, small, total, "boxes", ids, "", fix)]


def larger_input(sides: np.ndarray, grid: PatchGrid) -> str:
    """The smallest input size that leaves few boxes below a patch, and what else helps; ``sides`` are in patches."""
    below = float((sides < 1).mean())
    for factor in LARGER:
        height, width = (PATCH * round(side * factor / PATCH) for side in grid.image_size)
        size = ImageSize(height, width)
        true_factor = np.sqrt(height * width / (grid.image_size.height * grid.image_size.width))
        left = float((sides * true_factor < 1).mean())
        if left <= max(ENOUGH, below / 5):
            break
    helped = (below - left) / below
    if helped < 0.5:
        return "cut the pictures into tiles before training: no input size that is affordable brings them above a patch"
    patches = true_factor**2
    return (
        f"--image_size {size} brings {100 * helped:.0f} % of them above one patch ({patches:.1f} times the patches); "
        "--feature_scales [4,2,1] adds finer cells at less cost"
    )


def check_queries(split: Split, num_queries: int) -> list[Finding]:
    """Images with more boxes to find than there are object queries."""
    counts = np.bincount(split.boxes.image[split.trained], minlength=len(split.images.ids))
    crowded = np.flatnonzero(counts > num_queries)
    if not len(crowded):
        return []
    names = [split.images.label(index) for index in crowded[np.argsort(-counts[crowded], kind="stable")].tolist()]
    most = int(counts.max())
    return [
        Finding(
            *("too_many_boxes", split.name, len(names), len(split.images.ids), "images", names),
            f"up to {most:,} boxes, and --num_queries {num_queries}",
            f"--num_queries {-(-most // 50) * 50} or more",
        )
    ]


def check_shapes(split: Split, grid: PatchGrid) -> list[Finding]:
    """Images that stretching squeezes far more along one side, where they are many, and the shape that suits them."""
    sizes = split.images.sizes
    scales = grid.scales(sizes)[:-1]
    with np.errstate(invalid="ignore"):
        squeezed = scales.max(axis=1) >= STRETCHED * scales.min(axis=1)
    if not squeezed.any() or squeezed.mean() < STRETCHED_SHARE:
        return []
    names = [split.images.label(index) for index in np.flatnonzero(squeezed).tolist()]
    ratio = float(np.median(sizes[squeezed, 0] / sizes[squeezed, 1]))
    area = grid.image_size.height * grid.image_size.width
    height, width = (max(1, round(np.sqrt(side) / PATCH)) * PATCH for side in (area / ratio, area * ratio))
    fix = f"--resize_mode letterbox, or --image_size {ImageSize(height, width)}, which is their shape at the same cost"
    return [Finding("image_stretched", split.name, len(names), len(sizes), "images", names, "", fix)]
