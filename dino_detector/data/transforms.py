"""From an image of any size to the network's input, and boxes back to the pixels of the original image.

Every image is resampled once: zoom-out, crop and scale jitter only choose a window, which may reach beyond the image,
and the window is then brought to the input size. Colours are distorted last, on the small image.

An image that is resized from w to w' pixels has x' = x * w' / w for pixel edges (``align_corners=False``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_convert, box_iou
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from dino_detector.config import ImageSize

ResizeMode = Literal["stretch", "letterbox"]


@dataclass(frozen=True)
class Augmentation:
    """How far training images depart from the originals."""

    zoom_out_probability: float = 0.3
    """chance to put the image on a larger canvas of the mean colour"""
    zoom_out_side: float = 2.0
    """largest side of that canvas, as a multiple of the image's"""
    crop_probability: float = 0.5
    """chance to crop so that at least one box keeps a minimal overlap with the crop"""
    crop_side: float = 0.3
    """smallest side of the crop, as a fraction of the image's"""
    scale_jitter: float = 1.25
    """largest factor by which the objects grow or shrink"""
    flip_probability: float = 0.5
    """chance to mirror the image"""
    photometric_probability: float = 0.5
    """chance to distort brightness, contrast, saturation and hue"""


def training_transforms(*, image_size: ImageSize, resize_mode: ResizeMode, augmentation: Augmentation) -> v2.Transform:
    """Random window, flip and colours, exactly at ``image_size``; boxes under one pixel are dropped with their labels.

    Takes and returns a dict of ``image`` (`tv_tensors.Image` ``[3, H, W]`` uint8), ``boxes``
    (`tv_tensors.BoundingBoxes` XYXY ``[N, 4]``) and ``labels`` ``[N]``. Draws from torch's CPU generator alone.
    """
    colours = v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
    return v2.Compose(
        [
            RandomWindow(image_size=image_size, resize_mode=resize_mode, augmentation=augmentation),
            v2.RandomApply([colours], p=augmentation.photometric_probability),
            v2.SanitizeBoundingBoxes(min_size=1),
        ]
    )


def evaluation_transforms(*, image_size: ImageSize, resize_mode: ResizeMode) -> v2.Transform:
    """The whole image at ``image_size``, nothing random.

    Takes and returns what `training_transforms` does, or an image alone.
    """
    return WholeImage(image_size=image_size, resize_mode=resize_mode)


def content_size(original_sizes: Tensor, *, image_size: ImageSize, resize_mode: ResizeMode) -> Tensor:
    """Pixels of the network's input that an image fills, from the top-left corner.

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
    # round(a / b) = (2a + b) // 2b keeps to whole numbers, so every device gives the same size
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


class Window(NamedTuple):
    """A rectangle of whole pixels that may reach beyond the image."""

    left: int
    top: int
    width: int
    height: int


class Placement(NamedTuple):
    """How a window reaches the network's input: crop to the image, resize, mirror, pad.

    ``kept`` ``[N]`` tells which boxes have their centre in the window, while the others vanish; None keeps all.
    """

    crop: Window
    resized: list[int]
    padding: list[int]
    mirrored: bool
    kept: Tensor | None


class WholeImage(v2.Transform):
    """Brings the whole image to the input size; in a letterbox it lies top-left on the mean colour of photographs."""

    def __init__(self, *, image_size: ImageSize, resize_mode: ResizeMode) -> None:
        super().__init__()
        self.image_size = image_size
        self.resize_mode: ResizeMode = resize_mode
        self.fill = [124.0, 116.0, 104.0]

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Choose what happens to this image."""
        height, width = v2.query_size(flat_inputs)
        return {"placement": self.place(Window(0, 0, width, height), height, width, kept=None, mirrored=False)}

    def place(self, window: Window, height: int, width: int, *, kept: Tensor | None, mirrored: bool) -> Placement:
        """Where the window of an image of ``height`` x ``width`` pixels goes in the network's input.

        What is left of the window within the image is placed on whole pixels, so image and boxes agree exactly.
        """
        window_size = torch.tensor([window.height, window.width])
        filled = content_size(window_size, image_size=self.image_size, resize_mode=self.resize_mode).tolist()
        top, crop_height, above, resized_height = _overlap(window.top, window.height, height, filled[0])
        left, crop_width, before, resized_width = _overlap(window.left, window.width, width, filled[1])
        return Placement(
            crop=Window(left, top, crop_width, crop_height),
            resized=[resized_height, resized_width],
            padding=[
                before,
                above,
                self.image_size.width - before - resized_width,
                self.image_size.height - above - resized_height,
            ],
            mirrored=mirrored,
            kept=kept,
        )

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply the placement to the image or to its boxes."""
        placement: Placement = params["placement"]
        crop = placement.crop
        if isinstance(inpt, tv_tensors.BoundingBoxes) and placement.kept is not None:
            inpt = tv_tensors.wrap(inpt * placement.kept.unsqueeze(1), like=inpt)
        moved = F.crop(inpt, crop.top, crop.left, crop.height, crop.width)
        moved = F.resize(moved, placement.resized, antialias=True)
        if placement.mirrored:
            moved = F.horizontal_flip(moved)
        return F.pad(moved, placement.padding, fill=self.fill) if any(placement.padding) else moved


class RandomWindow(WholeImage):
    """Zoom-out, crop and scale jitter as one window of the image, and a random mirror image.

    Zoom-out and the crop follow "SSD: Single Shot MultiBox Detector" (https://arxiv.org/abs/1512.02325, section 2.2
    and 3.6). As there, a box stays if its centre is in the window, clipped to it.
    """

    def __init__(self, *, image_size: ImageSize, resize_mode: ResizeMode, augmentation: Augmentation) -> None:
        super().__init__(image_size=image_size, resize_mode=resize_mode)
        self.augmentation = augmentation
        self.min_overlaps = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the window and whether to mirror it."""
        chosen = self.augmentation
        height, width = v2.query_size(flat_inputs)
        boxes_xyxy = v2.get_bounding_boxes(flat_inputs).as_subclass(Tensor)  # [N, 4]
        window = torch.tensor([0.0, 0.0, width, height])  # x, y, width, height
        window = _resized_at_random(window, chosen.scale_jitter ** (2 * _draw() - 1))
        if _draw() < chosen.zoom_out_probability:
            window = _resized_at_random(window, 1 + _draw() * (chosen.zoom_out_side - 1))
        if len(boxes_xyxy) > 0 and _draw() < chosen.crop_probability:
            window = self._cropped(window, boxes_xyxy)

        left, top, right, bottom = box_convert(window, "xywh", "xyxy").round().int().tolist()
        left, top = min(left, width - 1), min(top, height - 1)  # rounding must not lose the image, nor the window
        whole = Window(left, top, max(right, left + 1, 1) - left, max(bottom, top + 1, 1) - top)
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        corner = torch.tensor(whole[:2])
        kept = ((centres > corner) & (centres < corner + torch.tensor(whole[2:]))).all(dim=1)
        placement = self.place(whole, height, width, kept=kept, mirrored=_draw() < chosen.flip_probability)
        return {"placement": placement}

    def _cropped(self, window: Tensor, boxes_xyxy: Tensor) -> Tensor:
        """A part of the window ``[4]`` (xywh) in which a box has its centre and at least some drawn IoU."""
        smallest = self.augmentation.crop_side
        for min_overlap in self.min_overlaps[torch.randperm(len(self.min_overlaps))].tolist():
            if min_overlap == 1:
                return window
            draws = torch.rand(40, 4)
            sizes = (smallest + (1 - smallest) * draws[:, :2]) * window[2:]
            crops = torch.cat([window[:2] + (window[2:] - sizes) * draws[:, 2:], sizes], dim=1)  # [40, 4] xywh
            crops_xyxy = box_convert(crops, "xywh", "xyxy")
            centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
            inside = (centres > crops_xyxy[:, None, :2]) & (centres < crops_xyxy[:, None, 2:])  # [40, N, 2]
            fits = (inside.all(dim=2) & (box_iou(crops_xyxy, boxes_xyxy) >= min_overlap)).any(dim=1)
            aspects = sizes[:, 0] / sizes[:, 1]
            fits &= (aspects >= 0.5) & (aspects <= 2)
            if fits.any():
                return crops[int(fits.int().argmax())]
        raise AssertionError("the overlap of 1 is always among those drawn")


def _draw() -> float:
    """A random number in 0..1."""
    return torch.rand(()).item()


def _resized_at_random(window: Tensor, factor: float) -> Tensor:
    """The window ``[4]`` (xywh) with its sides times ``factor``, at a random place within or around the old one."""
    sides = window[2:] * factor
    return torch.cat([window[:2] + torch.rand(2) * (window[2:] - sides), sides])


def _overlap(start: int, length: int, limit: int, filled: int) -> tuple[int, int, int, int]:
    """One axis of a window from ``start``, scaled to ``filled`` pixels, and of an image from 0 to ``limit``.

    Returns:
        Start and length of what both share, in image pixels; its start and length in the scaled window, both whole,
        with the length at least 1.
    """
    near, far = max(start, 0), min(start + length, limit)
    assert near < far, "a window always covers part of its image"
    scaled_near = min(round((near - start) * filled / length), filled - 1)
    scaled_far = max(round((far - start) * filled / length), scaled_near + 1)
    return near, far - near, scaled_near, scaled_far - scaled_near
