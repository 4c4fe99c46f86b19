"""Compares boxes and images with the patch grid of the backbone, and advises other settings."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from dino_detector.config import ImageSize
from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding

PATCH = 14
"""side of a DINOv2 patch in pixels"""
SMALL_SHARE = 0.05
"""share of boxes below one patch from which a larger input is advised"""
LARGER = (1.25, 1.5, 2.0, 2.5, 3.0)
"""factors on the input size to try"""
ENOUGH = 0.02
"""share of boxes below one patch that is small enough"""
STRETCHED = 2.0
"""ratio of the scales of both sides from which stretching harms"""
STRETCHED_SHARE = 0.05
"""share of stretched images from which another shape is advised"""


class PatchGrid(NamedTuple):
    """The input of the network: its size, and how images are resized to it."""

    image_size: ImageSize
    resize_mode: Literal["stretch", "letterbox"]

    def scales(self, sizes: np.ndarray) -> np.ndarray:
        """Return the scales ``[I + 1, 2]`` in x and y of images of ``sizes`` ``[I, 2]`` (width, height).

        The last row, for position -1, is NaN.
        """
        known = np.vstack([sizes, [np.nan, np.nan]])
        scales = np.array([self.image_size.width, self.image_size.height]) / known
        if self.resize_mode == "letterbox":
            scales[:] = scales.min(axis=1, keepdims=True)
        return scales

    def sides(self, split: Split) -> np.ndarray:
        """Return the side ``[M]`` of each box in patches: the square root of its area after the resize."""
        widths_heights = split.clipped_xyxy[:, 2:] - split.clipped_xyxy[:, :2]
        resized = widths_heights * self.scales(split.images.sizes)[split.boxes.image]
        return np.sqrt(resized.clip(min=0).prod(axis=1)) / PATCH

    @property
    def words(self) -> str:
        """The flags that set the grid, and its rows and columns."""
        rows, columns = (side // PATCH for side in self.image_size)
        return f"--image_size {self.image_size} --resize_mode {self.resize_mode}, {rows} x {columns} patches"


def check_grid(split: Split, grid: PatchGrid, sides: np.ndarray, num_queries: int) -> list[Finding]:
    """Find small boxes and stretched images, if they are many, and images with more boxes than object queries.

    Args:
        split: the split.
        grid: the patch grid of the network's input.
        sides: ``[M]`` sides of the boxes in patches.
        num_queries: object queries of the decoder.
    """
    findings = []
    trained = sides[split.trained]
    if len(trained) and (trained < 1).mean() >= SMALL_SHARE:
        small, fix = split.trained & (sides < 1), _larger_input(trained, grid)
        findings.append(split.find_boxes("box_below_patch", small, total=len(trained), fix=fix))

    counts = np.bincount(split.boxes.image[split.trained], minlength=len(split.images.ids))
    most_first = np.argsort(-counts, kind="stable")[: (counts > num_queries).sum()]
    most = counts.max(initial=0)
    note, fix = f"up to {most:,} boxes, and --num_queries {num_queries}", f"--num_queries {-(-most // 50) * 50} or more"
    findings.append(split.find_images("too_many_boxes", most_first, note, fix=fix))

    sizes = split.images.sizes
    scales = grid.scales(sizes)[:-1]
    squeezed = scales.max(axis=1) >= STRETCHED * scales.min(axis=1)
    if squeezed.any() and squeezed.mean() >= STRETCHED_SHARE:
        ratio = float(np.median(sizes[squeezed, 0] / sizes[squeezed, 1]))
        area = grid.image_size.height * grid.image_size.width
        height, width = (max(1, round(np.sqrt(side) / PATCH)) * PATCH for side in (area / ratio, area * ratio))
        size = ImageSize(height, width)
        fix = f"--resize_mode letterbox, or --image_size {size}, which is their shape at the same cost"
        findings.append(split.find_images("image_stretched", squeezed, fix=fix))
    return findings


def larger_input(sides: np.ndarray, grid: PatchGrid, *, most: float = LARGER[-1]) -> tuple[ImageSize, float] | None:
    """Return the smallest larger input that leaves few boxes below a patch, and the share that it leaves.

    None means that even the largest input, ``most`` times the sides of the grid, leaves more than half of these boxes.

    Args:
        sides: ``[N]`` sides of the boxes in patches.
        grid: the present input.
        most: largest factor on its sides.
    """
    below = float((sides < 1).mean())
    for factor in (one for one in LARGER if one <= most):
        size = ImageSize(*(PATCH * round(side * factor / PATCH) for side in grid.image_size))
        left = float((sides * np.sqrt(_times_the_patches(size, grid)) < 1).mean())
        if left <= max(ENOUGH, below / 5):
            break
    return None if left > below / 2 else (size, left)


def _larger_input(sides: np.ndarray, grid: PatchGrid) -> str:
    """Advise an input size that brings the boxes above a patch; ``sides`` are in patches."""
    larger, below = larger_input(sides, grid), float((sides < 1).mean())
    if larger is None:
        return "cut the pictures into tiles before training: no input size that is affordable brings them above a patch"
    size, left = larger
    times = _times_the_patches(size, grid)
    return (
        f"--image_size {size} brings {100 * (below - left) / below:.0f} % of them above one patch "
        f"({times:.1f} times the patches); --feature_scales [4,2,1] adds finer cells at less cost"
    )


def _times_the_patches(size: ImageSize, grid: PatchGrid) -> float:
    """Return the number of patches of an input divided by the patches of the grid."""
    return size.height * size.width / (grid.image_size.height * grid.image_size.width)
