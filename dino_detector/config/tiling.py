"""Settings of detection in tiles."""

from __future__ import annotations

from dataclasses import dataclass

from dino_detector.config.image_size import ImageSize
from dino_detector.errors import InputError


@dataclass(frozen=True)
class TilingConfig:
    """Detection in overlapping tiles, for small objects in large images; training does without.

    Raises:
        InputError: an overlap that leaves no step from one tile to the next.
    """

    tile_size: ImageSize | None = None
    """detect in tiles of this size too, in pixels of the image, a number or HEIGHTxWIDTH; each is brought to the
    network's input size, and an image that fits in one is detected in as a whole only"""
    tile_overlap: float = 0.2
    """share of a tile's side that it has in common with the next, 0 to below 1; at least the largest of the small
    objects should fit in it"""

    def __post_init__(self) -> None:
        if not 0 <= self.tile_overlap < 1:
            raise InputError(f"tile_overlap must be at least 0 and below 1, not {self.tile_overlap!r}")
