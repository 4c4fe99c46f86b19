"""Resizes images to the network's input, and maps boxes back to the original image.

An image that is resized from w to w' pixels has x' = x * w' / w for pixel edges (``align_corners=False``).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from dino_detector.config import ImageSize

ResizeMode = Literal["stretch", "letterbox"]

FILL = (124, 116, 104)
"""fill colour in RGB, the mean of ImageNet"""


def evaluation_transforms(*, image_size: ImageSize, resize_mode: ResizeMode) -> v2.Transform:
    """Return the transform that resizes whole images to ``image_size``, without randomness.

    It takes and returns an image alone, or a dict of ``image`` (`tv_tensors.Image` ``[3, H, W]`` uint8) and ``boxes``
    (`tv_tensors.BoundingBoxes` XYXY ``[N, 4]``) among others.
    """
    return WholeImage(image_size=image_size, resize_mode=resize_mode)


def content_size(original_sizes: Tensor, *, image_size: ImageSize, resize_mode: ResizeMode) -> Tensor:
    """Return the size in the network's input that an image fills, from the top-left corner.

    Stretched images fill all of it. Letterboxed images fill one side and keep their aspect ratio on the other, rounded
    to whole pixels.

    Args:
        original_sizes: ``[..., 2]`` int64, height and width in pixels.
        image_size: size of the network's input.
        resize_mode: stretch or letterbox.

    Returns:
        ``[..., 2]`` int64, height and width in pixels.
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
        resize_mode: stretch or letterbox, as in the transforms.

    Returns:
        ``[B, Q, 4]`` xyxy in pixels of each original image, clipped to it.
    """
    filled = content_size(original_sizes, image_size=image_size, resize_mode=resize_mode)
    scale = original_sizes.new_tensor(image_size) * original_sizes / filled  # [B, 2], original pixels per unit
    scale_xyxy = scale.flip(-1).repeat(1, 2).unsqueeze(1).to(boxes_cxcywh.dtype)  # [B, 1, 4]
    limit_xyxy = original_sizes.flip(-1).repeat(1, 2).unsqueeze(1).to(boxes_cxcywh.dtype)  # [B, 1, 4]
    boxes_xyxy = box_convert(boxes_cxcywh, "cxcywh", "xyxy") * scale_xyxy
    return torch.minimum(boxes_xyxy.clamp(min=0), limit_xyxy)


class WholeImage(v2.Transform):
    """Resizes the whole image to the input size; letterboxed images lie top-left on the fill colour."""

    def __init__(self, *, image_size: ImageSize, resize_mode: ResizeMode) -> None:
        super().__init__()
        self.image_size = image_size
        self.resize_mode: ResizeMode = resize_mode

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Return the size to resize this image to."""
        size = torch.tensor(v2.query_size(flat_inputs))
        filled = content_size(size, image_size=self.image_size, resize_mode=self.resize_mode)
        return {"filled": filled.tolist()}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize and pad the image or its boxes."""
        height, width = params["filled"]
        resized = F.resize(inpt, [height, width], antialias=True)
        padding = [0, 0, self.image_size.width - width, self.image_size.height - height]
        return F.pad(resized, padding, fill=list(map(float, FILL))) if any(padding) else resized
