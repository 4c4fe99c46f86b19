"""Opens every image once: its true size, its kind, whether it is damaged, and a thumbnail to compare."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data.pictures.bit_depth import is_deep, largest_value, white_level_of
from dino_detector.data.pictures.look_alikes import at_low_resolution, thumbnail_of
from dino_detector.data.pictures.opening import MOST_THREADS, QUARTER_TURNS, number_of_frames, opened, orientation
from dino_detector.errors import InputError

UNSUPPORTED = "with negative or NaN values"


class Picture(NamedTuple):
    """The contents of an image file.

    Attributes:
        path: the file.
        size: width and height in pixels as stored.
        turned: the EXIF orientation exchanges width and height.
        kind: ``grey``, ``colour`` or another word of the report, such as ``16-bit``.
        frames: number of frames.
        thumbnail: ``[32, 32]`` uint8, grey.
        largest: largest value of a picture of more than 8 bits; 0 for others.
    """

    path: Path
    size: tuple[int, int]
    turned: bool
    kind: str
    frames: int
    thumbnail: np.ndarray
    largest: float = 0.0


def open_pictures(
    splits: Sequence[Split], names: Sequence[Sequence[str | None]], *, advance: Callable[[], None]
) -> tuple[list[dict[int, Picture]], list[Counter[str]], list[Finding]]:
    """Open the files of all splits, and find mistakes in them.

    Args:
        splits: the splits.
        names: for each split the file of each image in the folder of the split, or None.
        advance: called after each image.

    Returns:
        The pictures of each split, by the position of their image; for each split the number of pictures of each kind,
        and of pictures ``turned by EXIF``; the mistakes.
    """
    pictures: list[dict[int, Picture]] = []
    findings: list[Finding] = []
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        for split, files in zip(splits, names, strict=True):
            paths = {row: split.images_dir / name for row, name in enumerate(files) if name is not None}
            found: dict[int, Picture] = {}
            damaged: list[str] = []
            for row, result in zip(paths, pool.map(_read_picture, paths.values()), strict=True):
                advance()
                if isinstance(result, Picture):
                    found[row] = result
                else:
                    damaged.append(f"{split.images.label(row)} ({result})")
            findings.append(Finding("image_unreadable", split.name, len(damaged), len(paths), "images", damaged))
            findings += _check(split, found)
            pictures.append(found)
    kinds = [Counter(picture.kind for picture in found.values()) for found in pictures]
    for counts, found in zip(kinds, pictures, strict=True):
        counts["turned by EXIF"] = sum(picture.turned for picture in found.values())
    return pictures, kinds, findings


def _read_picture(path: Path) -> Picture | str:
    """Return the contents of a file, or the reason why it can't be read; a JPEG is decoded at reduced size."""
    facts: dict[str, Any] = {}

    def prepare(image: Image.Image) -> None:
        turned = orientation(image) in QUARTER_TURNS
        facts.update(size=image.size, turned=turned, kind=_kind(image), frames=number_of_frames(image))
        at_low_resolution(image)

    try:
        with opened(path, prepare=prepare) as image:
            if is_deep(image):
                try:
                    facts["largest"] = largest_value(np.asarray(image))
                except InputError:
                    facts["kind"] = UNSUPPORTED
            return Picture(path, thumbnail=thumbnail_of(image), **facts)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")


def _kind(image: Image.Image) -> str:
    if is_deep(image):
        return {"F": "floating-point", "I": "32-bit"}.get(image.mode, "16-bit")
    if image.has_transparency_data:
        return "with transparency"
    return {"1": "grey", "L": "grey", "P": "with a palette", "CMYK": "CMYK"}.get(image.mode, "colour")


def _check(split: Split, pictures: dict[int, Picture]) -> list[Finding]:
    """Find sizes that differ from the annotations, and pictures that training can't read or reads in part."""
    found: dict[str, list[str]] = defaultdict(list)
    for row, picture in pictures.items():
        label = split.images.label(row)
        width, height = split.images.sizes[row].tolist()
        sizes = {picture.size, picture.size[::-1]} if picture.turned else {picture.size}
        if not isnan(width + height) and (width, height) not in sizes:
            kind = "image_size_swapped" if (height, width) == picture.size else "image_size_differs"
            stored = f"{picture.size[0]} x {picture.size[1]}"
            found[kind].append(f"{label} ({stored}, annotated as {width:.0f} x {height:.0f})")
        if picture.kind == UNSUPPORTED:
            found["image_mode"].append(label)
        if picture.frames > 1:
            found["image_animated"].append(label)
    note, deep = "", {row: picture for row, picture in pictures.items() if picture.largest}
    if deep:  # perhaps of 12 bits in 16-bit files
        largest = max(picture.largest for picture in deep.values())
        level = white_level_of(largest, floating=any(picture.kind == "floating-point" for picture in deep.values()))
        if level != 65535:
            found["image_depth"] = [split.images.label(row) for row in deep]
            note = f"their largest value is {largest:,g}, so white is {level:,g}"
    return [
        Finding(kind, split.name, len(ids), len(pictures), "images", ids, note if kind == "image_depth" else "")
        for kind, ids in found.items()
    ]
