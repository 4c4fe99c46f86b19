"""Reads pictures of any format, mode and bit depth as uint8 RGB tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.Image import Transpose
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dino_detector.data.pictures.bit_depth import is_deep, to_eight_bits
from dino_detector.data.pictures.opening import opened, orientation
from dino_detector.errors import InputError

TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE}
TURNS |= {6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
"""the transpose that turns a picture of each EXIF orientation upright; CIPA DC-008, tag 0x0112"""


def read_image(
    path: Path | str, *, expected_size: tuple[int, int] | None = None, white_level: float | None = None
) -> Tensor:
    """Read an image file as RGB ``[3, H, W]`` uint8.

    The EXIF rotation is applied, unless ``expected_size`` shows that the annotations refer to the stored pixels.
    Greyscale of more than 8 bits is scaled to 8 bits. Transparent pixels are blended with white. Only the first of
    several frames is read.

    Args:
        path: an image in any format that Pillow reads.
        expected_size: ``(height, width)`` in pixels in the annotation file.
        white_level: value of white in pictures of more than 8 bits; None stands for `white_level_of` the largest value.

    Raises:
        InputError: the file can't be read, or its size is not the expected one.
    """
    return F.pil_to_tensor(_decoded(path, expected_size, white_level, most_reduced=1)[0])


def readable_images(
    paths: Iterable[Path], unreadable: list[str], *, white_level: float | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield the position and the pixels of each picture that can be read; see `read_image`.

    For every other picture, add a line with the reason to ``unreadable``.
    """
    for position, path in enumerate(paths):
        try:
            image = read_image(path, white_level=white_level)
        except InputError as error:
            unreadable.append(str(error))
            continue
        yield position, image


def read_part(
    path: Path | str,
    *,
    expected_size: tuple[int, int],
    crop: tuple[int, int, int, int],
    size: tuple[int, int],
    white_level: float | None = None,
) -> Tensor:
    """Read a part of an image file as RGB ``[3, *size]`` uint8, resampled once; see `read_image`.

    A JPEG is decoded at a half, a quarter or an eighth of its size if at least twice the wanted size remains. That is
    several times as fast for a large photograph, and pixels keep their places. A JPEG with an EXIF rotation is decoded
    in full. ``crop`` is left, top, width and height of the part within the image; sizes are ``(height, width)``.
    """
    left, top, width, height = crop
    most_reduced = min(height // (2 * size[0]), width // (2 * size[1]))
    rgb, reduction = _decoded(path, expected_size, white_level, most_reduced=most_reduced)
    if reduction > 1:
        box = tuple(edge / reduction for edge in (left, top, left + width, top + height))
        return F.pil_to_tensor(rgb.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
    return F.resize(F.crop(F.pil_to_tensor(rgb), top, left, height, width), list(size), antialias=True)


def check_image(path: Path | str, *, expected_size: tuple[int, int], white_level: float | None = None) -> None:
    """Raise if `read_image` would; it takes less than half the time for a JPEG, decoded at an eighth of its size."""
    _decoded(path, expected_size, white_level, most_reduced=8)


def to_rgb_tensor(image: Path | str | Image.Image | np.ndarray | Tensor, *, white_level: float | None = None) -> Tensor:
    """Convert an image in any form to RGB ``[3, H, W]`` uint8; raise `InputError` if it can't be converted.

    Args:
        image: a path, read by `read_image`; or pixels, without EXIF rotation: a PIL image; a numpy array of uint8, RGB
            ``[H, W, 3]``, RGBA ``[H, W, 4]`` or grey ``[H, W]`` (arrays of OpenCV are BGR: reverse the last axis); or
            a tensor ``[3, H, W]``, RGB, uint8 or floating point in 0..1.
        white_level: see `read_image`.
    """
    if isinstance(image, (str, Path)):
        return read_image(image, white_level=white_level)
    if isinstance(image, Tensor):
        return _to_uint8(image)
    if isinstance(image, np.ndarray):
        channels = image.shape[2:] if image.ndim in (2, 3) else None
        if channels not in ((), (3,), (4,)) or image.dtype != np.uint8 or image.size == 0:
            wanted = "uint8 [H, W, 3] (RGB), [H, W, 4] (RGBA) or [H, W]"
            raise InputError(f"a numpy image must be {wanted}, not {image.dtype} {list(image.shape)}; convert it")
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        return F.pil_to_tensor(_to_rgb(image, white_level))
    raise InputError(f"an image must be a path, a PIL image, a numpy array or a tensor, not {type(image).__name__}")


def _to_uint8(image: Tensor) -> Tensor:
    known_type = image.dtype == torch.uint8 or image.is_floating_point()
    if not known_type or image.ndim != 3 or len(image) != 3 or image.numel() == 0:
        wanted = "[3, H, W], uint8 or floating point in 0..1"
        raise InputError(f"an image tensor must be {wanted}, not {image.dtype} {list(image.shape)}; convert it")
    if image.dtype == torch.uint8:
        return image
    if not (image.min() >= 0 and image.max() <= 1):
        raise InputError("an image tensor of floats must have values in 0..1; divide by 255, or leave out mean and std")
    return (image * 255).round().to(torch.uint8)


def _decoded(
    path: Path | str, expected_size: tuple[int, int] | None, white_level: float | None, *, most_reduced: int
) -> tuple[Image.Image, int]:
    """Return the upright RGB image, and the divisor of its sides."""
    size, reduction = (0, 0), 1

    def prepare(image: Image.Image) -> None:
        nonlocal size, reduction
        size = (image.height, image.width)
        reduction = _reduce(image, most_reduced)

    with opened(path, prepare=prepare) as image:
        rgb = _to_rgb(image if reduction > 1 else _upright(image, expected_size), white_level)
    size = size if reduction > 1 else (rgb.height, rgb.width)
    if expected_size is not None and size != expected_size:
        raise InputError(
            f"{path}: the image has {size[0]} x {size[1]} pixels (height x width), but its annotations say "
            f"{expected_size[0]} x {expected_size[1]}; correct the annotations or replace the file"
        )
    return rgb, reduction


def _reduce(image: Image.Image, most: int) -> int:
    """Set up a JPEG to be decoded at a fraction of its size; return the divisor of its sides, 1 for other pictures."""
    most = min(most, *image.size)
    if most < 2 or image.format != "JPEG" or orientation(image) != 1:
        return 1
    reduction = max(power for power in (2, 4, 8) if power <= most)
    # Pillow divides by the largest power of two that leaves at least these sides
    return 1 if image.draft(None, tuple(side // reduction for side in image.size)) is None else reduction


def _upright(image: Image.Image, expected_size: tuple[int, int] | None) -> Image.Image:
    """Apply the EXIF rotation, unless only the stored pixels have the expected size."""
    turn = TURNS.get(orientation(image))
    if turn is None:
        return image
    upright = image.transpose(turn)
    stored_only = expected_size == image.size[::-1] != upright.size[::-1]
    return image if stored_only else upright


def _to_rgb(image: Image.Image, white_level: float | None) -> Image.Image:
    """Convert any mode of Pillow to RGB; raise `InputError` for values that can't be scaled to 8 bits."""
    if is_deep(image):
        return to_eight_bits(image, white_level).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # convert always copies
