"""Scenes: the network's input while it is composed of one image, or of four as a mosaic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dino_detector.config import ImageSize
from dino_detector.data.coco.images import CocoImages, Objects, first_readable
from dino_detector.data.windows import FILL, Piece, ResizeMode, Window, centred_in, covering_window, map_window

MOSAIC_CENTRE = (0.3, 0.7)
"""range of the point where the four images of a mosaic meet, as fractions of both sides"""


class Scene(NamedTuple):
    """Pixels ``[3, H, W]`` uint8, and the objects in them."""

    pixels: Tensor
    objects: Objects


def blank(image_size: ImageSize) -> Tensor:
    """Return pixels ``[3, H, W]`` uint8 of the fill colour."""
    return torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).repeat(1, *image_size)


def draw_piece(images: CocoImages, index: int, *, window: Window, piece: Piece, canvas: Tensor) -> Objects:
    """Draw the part of an image in a window on the canvas ``[3, H, W]``, and return its objects.

    As in SSD, an object counts if its centre is in the window; its box is clipped to the window. Boxes smaller than one
    pixel of the canvas are left out. If the image can't be read, raise `InputError` and leave the canvas unchanged.
    """
    left, top, width, height = piece.place
    pixels = images.read_part(index, piece.crop, (height, width))
    canvas[:, top : top + height, left : left + width] = pixels.flip(-1) if piece.mirrored else pixels
    objects = images.objects(index)
    kept = objects.at(centred_in(window, objects.boxes_xyxy))
    return Objects(piece.move(kept.boxes_xyxy), kept.labels).at_least(1)


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
    that fills it with the same distortion as in evaluation; the part spans the whole image along one axis.
    The next image replaces an unreadable partner, and ``skipped`` receives a line about it; if the image at ``index``
    can't be read, raise `InputError`.
    """
    canvas = blank(image_size)

    def draw(index: int, place: Window) -> Objects:
        size = images.size(index)
        window = covering_window(rng, size, place=place, image_size=image_size, resize_mode=resize_mode)
        mirrored = rng.random() < flip_probability
        piece = map_window(window, size, place=place, resize_mode="stretch", mirrored=mirrored)
        return draw_piece(images, index, window=window, piece=piece, canvas=canvas)

    height, width = image_size
    y, x = (round(side * rng.uniform(*MOSAIC_CENTRE)) for side in image_size)
    parts = [draw(index, Window(0, 0, x, y))]
    for place in (Window(x, 0, width - x, y), Window(0, y, x, height - y), Window(x, y, width - x, height - y)):
        partner = images.another(rng, index)
        parts.append(first_readable(images, partner, lambda index, place=place: draw(index, place), skipped))
    return Scene(canvas, Objects.joined(parts))
