"""Windows: the part of an image that the network sees, its place in the network's input, and the boxes in it.

Resizing from w to w' pixels moves a pixel edge from x to x * w' / w (``align_corners=False``). In training every image
is resampled once: zoom-out, crop and scale jitter only choose a window, which may reach beyond the image; then the part
of the image in the window is resized to its place in the network's input.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2 import functional as F

from dino_detector.config import AugmentationConfig, ImageSize

ResizeMode = Literal["stretch", "letterbox"]

FILL = (124, 116, 104)
"""fill colour in RGB, the mean of ImageNet"""
ZOOM_OUT_SIDE = 2.0
"""largest side of the canvas of a zoom-out, relative to the image"""
CROP_SIDE = 0.6
"""smallest side of a crop, as a fraction of the window's side, after scale jitter and zoom-out"""
CROP_ASPECT = 4 / 3
"""largest ratio between the fractions of width and height that a crop keeps"""


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
    """Map boxes of the network's input back to the original images, whose sizes are ``[B, 2]`` int64, height first.

    The given boxes ``[B, Q, 4]`` are centre and size as fractions of the input. The returned boxes ``[B, Q, 4]`` are
    xyxy in pixels of each original image, clipped to it.
    """
    filled = content_size(original_sizes, image_size=image_size, resize_mode=resize_mode)
    scale = original_sizes.new_tensor(image_size) * original_sizes / filled  # [B, 2], original pixels per unit
    scale_xyxy, limit_xyxy = (
        pair.flip(-1).repeat(1, 2).unsqueeze(1).to(boxes_cxcywh.dtype) for pair in (scale, original_sizes)
    )  # [B, 1, 4]
    boxes_xyxy = box_convert(boxes_cxcywh, "cxcywh", "xyxy") * scale_xyxy
    return torch.minimum(boxes_xyxy.clamp(min=0), limit_xyxy)


class Window(NamedTuple):
    """A rectangle of whole pixels; it may reach beyond its image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corner(self) -> np.ndarray:
        """Left and top ``[2]``."""
        return np.array(self[:2])

    @property
    def sides(self) -> np.ndarray:
        """Width and height ``[2]``."""
        return np.array(self[2:])


class Piece(NamedTuple):
    """A part of an image, ``crop``, that is resized to a place in the network's input, mirrored horizontally or not."""

    crop: Window
    place: Window
    mirrored: bool

    @property
    def scale(self) -> np.ndarray:
        """Height and width ``[2]`` of an image pixel in the input."""
        return (self.place.sides / self.crop.sides)[::-1]

    def move(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Return boxes ``[N, 4]`` of the image, clipped to the crop, in pixels of the input."""
        crop, place = self.crop, self.place
        inside = (boxes_xyxy - for_both_corners(crop.corner)).clip(0, for_both_corners(crop.sides))
        moved = inside * for_both_corners(place.sides) / for_both_corners(crop.sides)
        if self.mirrored:
            moved[:, [0, 2]] = place.width - moved[:, [2, 0]]
        return (moved + for_both_corners(place.corner)).astype(np.float32)


def map_window(
    window: Window, size: tuple[int, int], *, place: Window, resize_mode: ResizeMode, mirrored: bool = False
) -> Piece:
    """Map a window of an image of ``size`` (height, width) to a place of the network's input.

    The piece covers whole pixels of the place, so image and boxes agree exactly; the rest of the place stays empty.
    """
    window_size = torch.tensor([window.height, window.width])
    filled = content_size(window_size, image_size=ImageSize(place.height, place.width), resize_mode=resize_mode)
    filled_height, filled_width = filled.tolist()
    top, crop_height, above, height = _overlap(window.top, window.height, size[0], filled_height)
    left, crop_width, before, width = _overlap(window.left, window.width, size[1], filled_width)
    covered = Window(place.left + before, place.top + above, width, height)
    return Piece(Window(left, top, crop_width, crop_height), covered, mirrored)


def for_both_corners(pairs: np.ndarray) -> np.ndarray:
    """Repeat x and y ``[..., 2]`` for boxes xyxy, ``[..., 4]``; `numpy.tile` takes ten times as long."""
    return np.concatenate([pairs, pairs], axis=-1)


def centred_in(window: Window, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return which boxes ``[N, 4]`` have their centre in the window, ``[N]`` bool."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    return ((centres > window.corner) & (centres < window.corner + window.sides)).all(axis=1)


def whole_window(size: tuple[int, int]) -> Window:
    """Return the window of a whole image of ``size`` (height, width)."""
    return Window(0, 0, size[1], size[0])


def whole_scale(size: tuple[int, int], image_size: ImageSize, resize_mode: ResizeMode) -> np.ndarray:
    """Return the height and width ``[2]``, in input pixels, of a pixel of a whole image of ``size`` (height, width)."""
    scale = np.array(image_size) / size
    return scale if resize_mode == "stretch" else np.full(2, scale.min())


def random_window(
    rng: np.random.Generator, size: tuple[int, int], boxes_xyxy: np.ndarray, settings: AugmentationConfig
) -> Window:
    """Draw scale jitter, zoom-out and crop of an image of ``size`` (height, width) with boxes ``[N, 4]`` as one window.

    Scale jitter follows "Simple Copy-Paste" (https://arxiv.org/abs/2012.07177, section 3.1), but drops an object whose
    centre is outside, instead of clipping it. Zoom-out follows "SSD: Single Shot MultiBox Detector"
    (https://arxiv.org/abs/1512.02325, section 3.6), with sides up to 2 times as long instead of 4. The crop is milder
    than in SSD, which requires an IoU with a box and so makes tiny crops around small boxes.
    """
    window = np.array([0.0, 0.0, size[1], size[0]])  # x, y, width, height
    window = _resized_at_random(rng, window, 1 / rng.uniform(*settings.scale_range))
    if rng.random() < settings.zoom_out_probability:
        window = _resized_at_random(rng, window, rng.uniform(1, ZOOM_OUT_SIDE))
    if len(boxes_xyxy) > 0 and rng.random() < settings.crop_probability:
        window = _cropped(rng, window, boxes_xyxy)
    return _in_whole_pixels(window, size)


def covering_window(
    rng: np.random.Generator, size: tuple[int, int], *, place: Window, image_size: ImageSize, resize_mode: ResizeMode
) -> Window:
    """Draw the largest part of an image that fills a place of the input with the distortion of the whole image.

    The part spans the whole image along one axis.
    """
    sides = place.sides / whole_scale(size, image_size, resize_mode)[::-1]
    sides = sides * (size[::-1] / sides).min()  # as large as the image has room for
    corner = rng.random(2) * (np.array(size[::-1]) - sides)
    return _in_whole_pixels(np.concatenate([corner, sides]), size)


def _cropped(rng: np.random.Generator, window: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Draw a part of the window ``[4]`` (xywh) around the centre of a random box ``[N, 4]`` that is centred in it."""
    start, end = window[:2], window[:2] + window[2:]
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    centres = centres[((centres > start) & (centres < end)).all(axis=1)]
    if len(centres) == 0:
        return window
    centre = rng.choice(centres)
    width = rng.uniform(CROP_SIDE, 1)
    height = rng.uniform(max(CROP_SIDE, width / CROP_ASPECT), min(1, width * CROP_ASPECT))
    sides = window[2:] * (width, height)
    corner = rng.uniform(np.maximum(start, centre - sides), np.minimum(centre, end - sides))
    return np.concatenate([corner, sides])


def _resized_at_random(rng: np.random.Generator, window: np.ndarray, factor: float) -> np.ndarray:
    """Scale the sides of the window ``[4]`` (xywh), and draw its place within or around the old one."""
    sides = window[2:] * factor
    return np.concatenate([window[:2] + rng.random(2) * (window[2:] - sides), sides])


def _in_whole_pixels(window: np.ndarray, size: tuple[int, int]) -> Window:
    """Round the window ``[4]`` (xywh) to whole pixels, with at least one pixel of the image in it."""
    height, width = size
    left, top, right, bottom = np.concatenate([window[:2], window[:2] + window[2:]]).round().astype(int).tolist()
    left, top = min(left, width - 1), min(top, height - 1)
    return Window(left, top, max(right, left + 1, 1) - left, max(bottom, top + 1, 1) - top)


def _overlap(start: int, length: int, limit: int, filled: int) -> tuple[int, int, int, int]:
    """Intersect a window with an image of ``limit`` pixels along one axis; the window is resized to ``filled`` pixels.

    Return start and length of the intersection in image pixels, then in pixels of the resized window (at least 1 long).
    """
    near, far = max(start, 0), min(start + length, limit)
    assert near < far, "a window always covers part of its image"
    scaled_near = min(round((near - start) * filled / length), filled - 1)
    scaled_far = max(round((far - start) * filled / length), scaled_near + 1)
    return near, far - near, scaled_near, scaled_far - scaled_near
