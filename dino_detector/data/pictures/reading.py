"""Reads pictures of any format, mode and bit depth as uint8 RGB tensors.

Deep pictures are greyscale of more than 8 bits or of floating-point values; their white level becomes 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.Image import Transpose
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dino_detector.data.pictures.files import number_of_frames, opened, orientation
from dino_detector.errors import InputError

TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE}
TURNS |= {6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
"""the transpose that turns a picture of each EXIF orientation upright; CIPA DC-008, tag 0x0112"""
LEVELS = (255, 1023, 4095, 16383, 65535)
"""largest values of 8, 10, 12, 14 and 16 bits"""
NEVER_DEEP = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".webp")
"""extensions of formats that are never deep, and hardly ever have several frames"""
LOOKED_AT = 200
"""number of pictures of a data set that are opened to find deep ones"""
MEASURED = 50
"""number of deep pictures whose values are read"""


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


class Survey(NamedTuple):
    """Result of a survey: one white level for all deep pictures, and numbers of pictures.

    The white level is None if no deep picture can be read. The numbers count deep pictures, pictures with several
    frames, and all pictures that could be opened.
    """

    white_level: float | None
    deep: int
    framed: int
    looked_at: int


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture has greyscale values of more than 8 bits, or floating-point values."""
    return image.mode == "F" or image.mode.startswith("I")


def white_level_of(maximum: float, *, floating: bool) -> float:
    """Return the smallest of `LEVELS` that is at least ``maximum``, or ``maximum`` itself if it is above 65535.

    Pictures of floating-point values have 1.0 as an additional level.
    """
    levels = (1.0, *LEVELS) if floating else LEVELS
    return float(next((level for level in levels if maximum <= level), maximum))


def largest_value(values: np.ndarray) -> float:
    """Return the largest value of a deep picture; raise `InputError` if a value is negative, infinite or NaN."""
    least, most = float(values.min()), float(values.max())  # NaN if any value is NaN
    if np.isnan(least):
        raise InputError("has NaN values; convert it to 8 or 16 bits")
    if not 0 <= least <= most < np.inf:
        raise InputError(f"has values from {least:g} to {most:g}; convert it to 8 or 16 bits")
    return most


def to_eight_bits(image: Image.Image, white_level: float | None) -> Image.Image:
    """Scale a deep picture to 8 bits so that its white level becomes 255.

    The white level None stands for `white_level_of` the picture's largest value. Raise `InputError` if a value is
    negative, infinite, NaN or above the white level.
    """
    values = np.asarray(image)
    floating = image.mode == "F"
    most = largest_value(values)
    white = white_level_of(most, floating=floating) if white_level is None else white_level
    if most > white:
        raise InputError(f"has values up to {most:g}, above the white level {white:g}; give --white_level {most:g}")
    if floating or not white.is_integer():
        scaled = np.rint(values * (255 / white))
    else:
        scaled = (values.astype(np.int64) * 255 + int(white) // 2) // int(white)
    return Image.fromarray(scaled.astype(np.uint8))


def survey(folder: Path, names: Sequence[str]) -> Survey:
    """Survey at most `LOOKED_AT` pictures of a folder, evenly spaced among the files of formats that can be deep."""
    candidates = [folder / name for name in names if not name.lower().endswith(NEVER_DEEP)]
    maxima: list[float] = []
    floating, deep, framed, looked_at = False, 0, 0, 0
    for path in candidates[:: max(1, len(candidates) // LOOKED_AT)][:LOOKED_AT]:
        try:
            with Image.open(path) as image:
                framed += number_of_frames(image) > 1
                looked_at += 1
                if not is_deep(image):
                    continue
            deep += 1
            if len(maxima) < MEASURED:
                with opened(path) as image:
                    maxima.append(largest_value(np.asarray(image)))
                    floating |= image.mode == "F"
        except Exception:  # a file that can't be read is reported by its reader
            continue
    level = white_level_of(max(maxima), floating=floating) if maxima else None
    return Survey(level, deep, framed, looked_at)
