"""Detection in overlapping tiles, with batches of tiles from several images.

Source: Akyon et al., "Slicing Aided Hyper Inference", https://arxiv.org/abs/2202.06934, section 3. Each tile is resized
to the network's input size, so that small objects grow. The whole image is another view, for large objects.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from torch import Tensor

from dino_detector.config import TilingConfig
from dino_detector.data.windows import Window
from dino_detector.errors import InputError
from dino_detector.inference.view_merging import merge_views

Found = TypeVar("Found")
"""result of an image: the detections of one detector, or a list with the detections of each detector"""

MOST_TILES = 10_000
"""largest number of tiles of an image; a user who asks for more probably gave their number as tile_size"""


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


def detect_in_views(
    detect: Callable[[Sequence[Tensor]], list[Found]],
    images: Iterable[Tensor],
    *,
    tiling: TilingConfig,
    batch_size: int,
    merge: Callable[[Sequence[Window], Sequence[Found]], Found] = merge_views,
) -> Iterator[Found]:
    """Yield the detections of each image, merged over its views.

    A batch may hold views of several images, and an image is read shortly before its first view runs.

    Args:
        detect: returns the detections of each image of a batch, in pixels of this image.
        images: uint8 ``[3, H, W]`` each, of any sizes.
        tiling: size and overlap of the tiles.
        batch_size: number of views in a batch.
        merge: merges the results of an image's views; the whole image comes first.
    """
    layouts: deque[list[Window]] = deque()

    def crops() -> Iterator[Tensor]:
        for image in images:
            layouts.append(views_of(image.shape[1], image.shape[2], tiling))
            for left, top, width, height in layouts[-1]:
                yield image[:, top : top + height, left : left + width]

    waiting = crops()
    batches = iter(lambda: list(islice(waiting, batch_size)), [])
    found = (detections for batch in batches for detections in detect(batch))
    for whole in found:
        views = layouts.popleft()
        yield merge(views, [whole, *islice(found, len(views) - 1)])


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return the first pixel of each tile along a side of ``length`` pixels."""
    stride = max(1, tile - math.ceil(tile * overlap))
    steps = math.ceil((length - tile) / stride)
    return [round(step * (length - tile) / steps) for step in range(steps + 1)] if steps else [0]
