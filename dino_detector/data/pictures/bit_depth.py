"""Pictures of more than 8 bits: their white level becomes 255.

Deep pictures are greyscale of more than 8 bits or of floating-point values.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dino_detector.data.pictures.finding import evenly_spaced
from dino_detector.data.pictures.opening import number_of_frames, opened
from dino_detector.errors import InputError

LEVELS = (255, 1023, 4095, 16383, 65535)
"""largest values of 8, 10, 12, 14 and 16 bits"""
NEVER_DEEP = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".webp")
"""extensions of formats that are never deep, and hardly ever have several frames"""
LOOKED_AT = 200
"""number of pictures of a data set that are opened to find deep ones"""
MEASURED = 50
"""number of deep pictures whose values are read"""


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
    deep: list[Path] = []
    maxima: list[float] = []
    floating, framed, looked_at = False, 0, 0
    for path in evenly_spaced(candidates, LOOKED_AT):
        with suppress(Exception), Image.open(path) as image:  # a file that can't be read is reported by its reader
            framed += number_of_frames(image) > 1
            looked_at += 1
            deep += [path] if is_deep(image) else []
    for path in evenly_spaced(deep, MEASURED):
        with suppress(Exception), opened(path) as image:
            maxima.append(largest_value(np.asarray(image)))
            floating |= image.mode == "F"
    level = white_level_of(max(maxima), floating=floating) if maxima else None
    return Survey(level, len(deep), framed, looked_at)
