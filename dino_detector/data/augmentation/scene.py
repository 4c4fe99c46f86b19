"""The network's input while it is composed of one or several images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dino_detector.config import ImageSize
from dino_detector.data.coco.images import CocoImages, Objects
from dino_detector.data.transforms import FILL
from dino_detector.data.windows import Piece, Window, centred_in


class Scene(NamedTuple):
    """Pixels ``[3, H, W]`` uint8, and the objects in them."""

    pixels: Tensor
    objects: Objects


def blank(image_size: ImageSize) -> Tensor:
    """Return pixels ``[3, H, W]`` uint8 of the fill colour."""
    return torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).repeat(1, *image_size)


def draw_piece(images: CocoImages, index: int, *, window: Window, piece: Piece, canvas: Tensor) -> Objects:
    """Draw the part of an image in a window on the canvas ``[3, H, W]``, and return its objects.

    As in SSD, an object counts if its centre is in the window; its box is clipped to the window. Boxes below one pixel
    of the canvas are left out.

    Raises:
        InputError: the image can't be read; the canvas is unchanged.
    """
    place = piece.place
    piece.draw(images.read_part(index, piece.crop, (place.height, place.width)), canvas)
    objects = images.objects(index)
    kept = objects.at(centred_in(window, objects.boxes_xyxy))
    return Objects(piece.move(kept.boxes_xyxy), kept.labels).at_least(1)
