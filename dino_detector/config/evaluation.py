"""Settings of evaluation: metrics and tiles."""

from __future__ import annotations

from dataclasses import dataclass

from dino_detector.config.image_size import ImageSize
from dino_detector.config.setting import check_ranges, setting

MAX_DETECTIONS = 100
"""detections per image and class that COCO's metrics count"""


@dataclass(frozen=True)
class EvaluationConfig:
    """Detections that the metrics count."""

    max_detections: int = setting(MAX_DETECTIONS, at_least=MAX_DETECTIONS)
    """detections per image and class that the metrics count, at least COCO's 100; raise it where images have more
    objects of a class. With 300, AR100 is called AR300"""


@dataclass(frozen=True)
class TilingConfig:
    """Detection in overlapping tiles, for small objects in large images; training uses whole images.

    Raises:
        InputError: the overlap is out of range.
    """

    tile_size: ImageSize | None = None
    """detect in tiles of this size besides the whole image, in pixels of the image, a number or HEIGHTxWIDTH; each tile
    is resized to the input size of the network. An image that fits in one tile has none"""
    tile_overlap: float = setting(0.2, at_least=0, below=1, effective_with="tile_size")
    """fraction of a tile's side that overlaps the next tile; a small object should fit in the overlap"""

    def __post_init__(self) -> None:
        check_ranges(self)
