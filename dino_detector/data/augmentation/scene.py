"""A picture of the size of the network's input, while it is put together from one image or several."""

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
    """Pixels ``[3, H, W]`` uint8 of the colour that stands where no image is."""
    return torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).repeat(1, *image_size)


def draw_piece(images: CocoImages, index: int, *, window: Window, piece: Piece, canvas: Tensor) -> Objects:
    """Read what a window shows of an image, put it on the canvas ``[3, H, W]``, and return the objects in it.

    As in SSD, an object is there if its centre is in the window; its box is clipped to it. Those below one pixel of the
    canvas are left out.

    Raises:
        InputError: the image can't be read; nothing has been drawn then.
    """
    place = piece.place
    piece.draw(images.read_part(index, piece.crop, (place.height, place.width)), canvas)
    objects = images.objects(index)
    kept = objects.at(centred_in(window, objects.boxes_xyxy))
    return Objects(piece.move(kept.boxes_xyxy), kept.labels).at_least(1)
