"""Greyscale pictures of more than 8 bits, and of floating-point values: which value is white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dino_detector.data.picture_files import number_of_frames, opened
from dino_detector.errors import InputError

LEVELS = (255, 1023, 4095, 16383, 65535)
"""largest values of 8, 10, 12, 14 and 16 bits"""
NEVER_DEEP = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".webp")
"""extensions of formats that have 8 bits and one frame, or several that nobody labels"""
LOOKED_AT = 200
"""pictures of a data set that are opened to see whether they are deep"""
MEASURED = 50
"""deep pictures whose values are read"""


class Survey(NamedTuple):
    """What a sample of a data set's pictures shows.

    Attributes:
        white_level: of the deep ones together; None where none is deep.
        deep: how many are deep.
        framed: how many have several frames, of which the first is used.
        looked_at: how many pictures were opened.
    """

    white_level: float | None
    deep: int
    framed: int
    looked_at: int


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has greyscale values of more than 8 bits, or of floating point."""
    return image.mode == "F" or image.mode.startswith("I")


def white_level_of(maximum: float, *, floating: bool) -> float:
    """The value that is white in pictures with such a largest value: 1 for fractions, else that of the fewest bits."""
    levels = (1.0, *LEVELS) if floating else LEVELS
    return float(next((level for level in levels if maximum <= level), maximum))


def largest_value(values: np.ndarray) -> float:
    """The largest value of a deep picture; raises `InputError` where a value is below 0, infinite or no number."""
    least, most = float(values.min()), float(values.max())  # NaN where one value is
    if not 0 <= least <= most < np.inf:
        raise InputError(f"has values from {least:g} to {most:g}; convert it to 8 or 16 bits")
    return most


def to_eight_bits(image: Image.Image, white_level: float | None) -> Image.Image:
    """Scale a deep picture so that the white level, None for the picture's own, becomes 255.

    Raises:
        InputError: a value is below 0, no number, or above the white level.
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
    """Look at some pictures of a data set, evenly spaced over those of formats that can be deep."""
    candidates = [folder / name for name in names if not name.lower().endswith(NEVER_DEEP)]
    sample = candidates[:: max(1, len(candidates) // LOOKED_AT)][:LOOKED_AT]
    maxima: list[float] = []
    floating, deep, framed, seen = False, 0, 0, 0
    for path in sample:
        try:
            with Image.open(path) as image:
                framed += number_of_frames(image) > 1
                seen += 1
                if not is_deep(image):
                    continue
            deep += 1
            if len(maxima) < MEASURED:
                with opened(path) as image:
                    maxima.append(largest_value(np.asarray(image)))
                    floating = floating or image.mode == "F"
        except Exception:  # a file that can't be read is reported by its reader
            continue
    level = white_level_of(max(maxima), floating=floating) if maxima else None
    return Survey(level, deep, framed, seen)
