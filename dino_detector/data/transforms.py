"""Resizes images to the network's input, and maps boxes back to the original image.

An image that is resized from w to w' pixels has x' = x * w' / w for pixel edges (``align_corners=False``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2 import functional as F

from dino_detector.config import ImageSize

ResizeMode = Literal["stretch", "letterbox"]

FILL = (124, 116, 104)
"""fill colour in RGB, the mean of ImageNet"""


def resize_to_input(image: Tensor, *, image_size: ImageSize, resize_mode: ResizeMode) -> Tensor:
    """Resize an image ``[3, H, W]`` uint8 to ``[3, *image_size]``; a letterboxed image lies top-left on `FILL`."""
    size = torch.tensor(image.shape[-2:])
    height, width = content_size(size, image_size=image_size, resize_mode=resize_mode).tolist()
    resized = F.resize(image, [height, width], antialias=True)
    padding = [0, 0, image_size.width - width, image_size.height - height]
    return F.pad(resized, padding, fill=list(map(float, FILL))) if any(padding) else resized


def content_size(original_sizes: Tensor, *, image_size: ImageSize, resize_mode: ResizeMode) -> Tensor:
    """Return the size in the network's input that an image fills, from the top-left corner.

    A stretched image fills the whole input. A letterboxed image fills one side and keeps its aspect ratio on the other,
    rounded to whole pixels. Sizes are ``[..., 2]`` int64, height and width in pixels.
    """
    sides = original_sizes.new_tensor(image_size).expand_as(original_sizes)
    if resize_mode == "stretch":
        return sides
    height, width = original_sizes.unbind(-1)
    # round(a / b) = (2a + b) // 2b in whole numbers gives the same size on every device
    fitted_height = (2 * height * image_size.width + width) // (2 * width)
    fitted_width = (2 * width * image_size.height + height) // (2 * height)
    fitted = torch.stack([fitted_height, fitted_width], dim=-1)
    return torch.minimum(fitted, sides).clamp(min=1)


def boxes_to_original(
    boxes_cxcywh: Tensor, original_sizes: Tensor, *, image_size: ImageSize, resize_mode: ResizeMode
) -> Tensor:
    """Map boxes of the network's input back to the original images.

    Args:
        boxes_cxcywh: ``[B, Q, 4]`` centre and size as fractions of the network's input.
        original_sizes: ``[B, 2]`` int64, height and width in pixels, on the device of the boxes.
        image_size: size of the network's input.
        resize_mode: the mode of `resize_to_input`.

    Returns:
        ``[B, Q, 4]`` xyxy in pixels of each original image, clipped to it.
    """
    filled = content_size(original_sizes, image_size=image_size, resize_mode=resize_mode)
    scale = original_sizes.new_tensor(image_size) * original_sizes / filled  # [B, 2], original pixels per unit
    scale_xyxy, limit_xyxy = (
        pair.flip(-1).repeat(1, 2).unsqueeze(1).to(boxes_cxcywh.dtype) for pair in (scale, original_sizes)
    )  # [B, 1, 4]
    boxes_xyxy = box_convert(boxes_cxcywh, "cxcywh", "xyxy") * scale_xyxy
    return torch.minimum(boxes_xyxy.clamp(min=0), limit_xyxy)
