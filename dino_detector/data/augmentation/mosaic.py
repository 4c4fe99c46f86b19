"""Mosaic: four images in one."""

from __future__ import annotations

import numpy as np

from dino_detector.config import ImageSize
from dino_detector.data.augmentation.scene import Scene, blank, draw_piece
from dino_detector.data.coco.images import CocoImages, Objects, first_readable
from dino_detector.data.transforms import ResizeMode
from dino_detector.data.windows import Window, covering_window, map_window

CENTRE = (0.3, 0.7)
"""range of the point where the four images meet, as fractions of both sides"""


def mosaic(
    rng: np.random.Generator,
    images: CocoImages,
    index: int,
    *,
    image_size: ImageSize,
    resize_mode: ResizeMode,
    flip_probability: float,
    skipped: list[str],
) -> Scene:
    """Combine the image at ``index`` and three random others, one per quadrant, each mirrored by its own draw.

    From "YOLOv4" (https://arxiv.org/abs/2004.10934, section 3.3). Each quadrant shows the largest part of its image
    that fills it without more distortion than in evaluation, so no space is lost: all of the image along one axis.

    Args:
        rng: source of randomness.
        images: the data set.
        index: the image in the first quadrant.
        image_size: size of the network's input.
        resize_mode: stretch or letterbox, which sets the distortion.
        flip_probability: probability to mirror an image.
        skipped: receives one line for each image that can't be read; the next image replaces it.

    Raises:
        InputError: the image at ``index`` can't be read.
    """
    canvas = blank(image_size)

    def draw(index: int, place: Window) -> Objects:
        size = images.size(index)
        window = covering_window(rng, size, place=place, image_size=image_size, resize_mode=resize_mode)
        mirrored = rng.random() < flip_probability
        piece = map_window(window, size, place=place, resize_mode="stretch", mirrored=mirrored)
        return draw_piece(images, index, window=window, piece=piece, canvas=canvas)

    first, *others = _quadrants(rng, image_size)
    parts = [draw(index, first)]
    for place in others:
        partner = images.another(rng, index)
        parts.append(first_readable(images, partner, lambda index, place=place: draw(index, place), skipped))
    return Scene(canvas, Objects.joined(parts))


def _quadrants(rng: np.random.Generator, image_size: ImageSize) -> list[Window]:
    height, width = image_size
    y, x = (round(side * rng.uniform(*CENTRE)) for side in image_size)
    return [
        Window(0, 0, x, y),
        Window(x, 0, width - x, y),
        Window(0, y, x, height - y),
        Window(x, y, width - x, height - y),
    ]
