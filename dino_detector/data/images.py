"""Any picture a user may have, as a uint8 RGB tensor."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dino_detector.data.picture_files import UNREADABLE
from dino_detector.errors import InputError


def read_image(path: Path | str, *, expected_size: tuple[int, int] | None = None) -> Tensor:
    """Read an image file as RGB.

    The EXIF rotation is applied, unless ``expected_size`` shows that the annotations were made on the pixels as they
    are stored. 16-bit greyscale is scaled to 8 bits; what is transparent is laid over white.

    Args:
        path: an image in any format that Pillow reads.
        expected_size: ``(height, width)`` in pixels that the annotation file states.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: the file is missing, is not an image, is cut short, or its size is not the expected one.
    """
    return F.pil_to_tensor(_decoded(path, expected_size, most_reduced=1).rgb)


def read_part(
    path: Path | str, *, expected_size: tuple[int, int], crop: tuple[int, int, int, int], size: tuple[int, int]
) -> Tensor:
    """Read a part of an image file as RGB, resampled once to ``size``.

    A JPEG is decoded at a half, a quarter or an eighth of its size where twice the pixels that are wanted are left
    then; that is several times as fast for a large photograph, and pixels stay where they are. One that its EXIF data
    turn is decoded in full.

    Args:
        path: an image in any format that Pillow reads.
        expected_size: ``(height, width)`` in pixels that the annotation file states.
        crop: left, top, width and height of the part, within the image.
        size: ``(height, width)`` to resize the part to.

    Returns:
        ``[3, *size]`` uint8.

    Raises:
        InputError: as `read_image`.
    """
    left, top, width, height = crop
    most_reduced = min(height // (2 * size[0]), width // (2 * size[1]))
    rgb, reduction = _decoded(path, expected_size, most_reduced=most_reduced)
    if reduction > 1:
        box = tuple(edge / reduction for edge in (left, top, left + width, top + height))
        return F.pil_to_tensor(rgb.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
    return F.resize(F.crop(F.pil_to_tensor(rgb), top, left, height, width), list(size), antialias=True)


def check_image(path: Path | str, *, expected_size: tuple[int, int]) -> None:
    """Raise as `read_image` would, in less than half of its time for a JPEG, which is decoded at an eighth of its size.

    Args:
        path: an image in any format that Pillow reads.
        expected_size: ``(height, width)`` in pixels that the annotation file states.
    """
    _decoded(path, expected_size, most_reduced=8)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels of an image file as it is displayed, from its header alone.

    Raises:
        InputError: the file is missing or is not an image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def to_rgb_tensor(image: Path | str | Image.Image | np.ndarray | Tensor) -> Tensor:
    """An image in any form as RGB.

    Args:
        image: a path, read by `read_image`; or pixels, taken as they are: a PIL image; a numpy array of uint8, RGB
            ``[H, W, 3]``, RGBA ``[H, W, 4]`` or grey ``[H, W]`` (arrays of OpenCV are BGR: reverse the last axis); or
            a tensor ``[3, H, W]``, RGB, uint8 or floating point in 0..1.

    Returns:
        ``[3, H, W]`` uint8.

    Raises:
        InputError: an array or tensor of another shape, type or range, or a file that cannot be read.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return F.pil_to_tensor(_to_rgb(image))
    if isinstance(image, np.ndarray):
        channels = image.shape[2:] if image.ndim in (2, 3) else None
        if channels not in ((), (3,), (4,)) or image.dtype != np.uint8 or image.size == 0:
            raise InputError(
                f"a numpy image must be uint8 [H, W, 3] (RGB), [H, W, 4] (RGBA) or [H, W], not {image.dtype} "
                f"{list(image.shape)}; convert it"
            )
        return F.pil_to_tensor(_to_rgb(Image.fromarray(image)))
    if isinstance(image, Tensor):
        floating = image.is_floating_point()
        if image.ndim != 3 or len(image) != 3 or image.numel() == 0 or not (floating or image.dtype == torch.uint8):
            raise InputError(
                f"an image tensor must be [3, H, W], uint8 or floating point in 0..1, not {image.dtype} "
                f"{list(image.shape)}; convert it"
            )
        if not floating:
            return image
        if not (image.min() >= 0 and image.max() <= 1):
            raise InputError(
                "a floating-point image tensor must have values in 0..1; divide by 255, or leave out mean and std"
            )
        return (image * 255).round().to(torch.uint8)
    raise InputError(f"an image must be a path, a PIL image, a numpy array or a tensor, not {type(image).__name__}")


class _Decoded(NamedTuple):
    """An upright RGB image, and what its sides have been divided by."""

    rgb: Image.Image
    reduction: int


def _decoded(path: Path | str, expected_size: tuple[int, int] | None, *, most_reduced: int) -> _Decoded:
    try:
        with Image.open(path) as image:
            size = (image.height, image.width)
            reduction = _reduce(image, most_reduced)
            image.load()
            if reduction > 1:
                rgb = _to_rgb(image)
            else:
                rgb = _to_rgb(_upright(image, expected_size))
                size = (rgb.height, rgb.width)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if expected_size is not None and size != expected_size:
        raise InputError(
            f"{path}: the image has {size[0]} x {size[1]} pixels (height x width), but its annotations say "
            f"{expected_size[0]} x {expected_size[1]}; correct the annotations or replace the file"
        )
    return _Decoded(rgb, reduction)


def _reduce(image: Image.Image, most: int) -> int:
    """Have a JPEG decoded at a fraction of its size; returns what its sides are divided by, 1 for one that is not."""
    most = min(most, *image.size)
    if most < 2 or image.format != "JPEG" or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return 1
    reduction = max(power for power in (2, 4, 8) if power <= most)
    # Pillow divides by the largest power of two that leaves these sides at least, which is this one
    return 1 if image.draft(None, tuple(side // reduction for side in image.size)) is None else reduction


def _unreadable(path: Path | str, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such image file; correct the path")
    reason = " ".join(str(error).split())
    return InputError(f"{path}: cannot be read as an image ({reason}); replace the file")


def _upright(image: Image.Image, expected_size: tuple[int, int] | None) -> Image.Image:
    """Apply the EXIF rotation, unless only the stored pixels have the expected size."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation == 1:
        return image
    stored_size = (image.height, image.width)
    upright = ImageOps.exif_transpose(image)
    if expected_size == stored_size != (upright.height, upright.width):
        return image
    return upright


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow to RGB; raises `InputError` where there is no sensible scale."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise InputError("it has 32-bit pixels; convert it to 8 or 16 bits")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise InputError("it has floating-point pixels; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
