"""Opens every image once: its true size, its kind, whether it is damaged, and a thumbnail to compare."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data.pictures.bit_depth import is_deep, largest_value, white_level_of
from dino_detector.data.pictures.files import MOST_THREADS, QUARTER_TURNS, number_of_frames, opened, orientation
from dino_detector.data_check.near_duplicates import THUMBNAIL
from dino_detector.errors import InputError


class Picture(NamedTuple):
    """The contents of an image file.

    Attributes:
        size: width and height in pixels as stored.
        turned: the EXIF orientation exchanges width and height.
        kind: ``16-bit``, ``32-bit``, ``float``, ``grey``, ``CMYK``, ``palette``, ``alpha``, ``colour``, or
            ``unsupported`` for values that training can't read.
        frames: number of frames.
        thumbnail: ``[32, 32]`` uint8, grey.
        largest: largest value of a picture of more than 8 bits; 0 for others.
    """

    size: tuple[int, int]
    turned: bool
    kind: str
    frames: int
    thumbnail: np.ndarray
    largest: float = 0.0


@dataclass(frozen=True)
class Opened:
    """The pictures of all splits together, N of them.

    Attributes:
        split: ``[N]`` position of the split.
        index: ``[N]`` position in the images of the split.
        thumbnails: ``[N, 32, 32]`` uint8.
        content: ``[N]`` int64, equal for files of equal bytes.
        kinds: number of pictures of each kind in each split, and of ``turned`` pictures.
    """

    split: np.ndarray
    index: np.ndarray
    thumbnails: np.ndarray
    content: np.ndarray
    kinds: list[Counter[str]]


def open_pictures(
    splits: Sequence[Split], files: Sequence[Sequence[Path | None]], *, advance: Callable[[], None]
) -> tuple[Opened, list[Finding]]:
    """Open the files of all splits, and find mistakes in them.

    Args:
        splits: the splits.
        files: for each split the file of each image, or None.
        advance: called after each image.
    """
    kept: list[tuple[int, int, Path, Picture]] = []
    kinds: list[Counter[str]] = []
    findings: list[Finding] = []
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        for number, (split, paths) in enumerate(zip(splits, files, strict=True)):
            rows = [row for row, path in enumerate(paths) if path is not None]
            pictures: dict[int, Picture] = {}
            damaged: list[str] = []
            for row, result in zip(rows, pool.map(read_picture, [paths[row] for row in rows]), strict=True):
                advance()
                if isinstance(result, Picture):
                    pictures[row] = result
                    kept.append((number, row, paths[row], result))
                else:
                    damaged.append(f"{split.images.label(row)} ({result})")
            findings.append(Finding("image_unreadable", split.name, len(damaged), len(rows), "images", damaged))
            findings += _check(split, pictures)
            kinds.append(Counter(picture.kind for picture in pictures.values()))
            kinds[-1]["turned"] = sum(picture.turned for picture in pictures.values())
    opened = Opened(
        split=np.array([number for number, *_ in kept], dtype=np.int64),
        index=np.array([row for _, row, *_ in kept], dtype=np.int64),
        thumbnails=np.array([picture.thumbnail for *_, picture in kept], np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL),
        content=same_bytes([path for _, _, path, _ in kept]),
        kinds=kinds,
    )
    return opened, findings


def read_picture(path: Path) -> Picture | str:
    """Return the contents of a file, or the reason why it can't be read; a JPEG is decoded at reduced size."""
    size, turned, frames, kind = (0, 0), False, 1, "colour"

    def prepare(image: Image.Image) -> None:
        nonlocal size, turned, frames, kind
        size, frames, kind = image.size, number_of_frames(image), _kind(image)
        turned = orientation(image) in QUARTER_TURNS
        image.draft("L", (2 * THUMBNAIL, 2 * THUMBNAIL))

    try:
        with opened(path, prepare=prepare) as image:
            largest = 0.0
            if is_deep(image):
                try:
                    largest = largest_value(np.asarray(image))
                except InputError:
                    kind = "unsupported"
            return Picture(size, turned, kind, frames, _thumbnail(image), largest)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")


def same_bytes(paths: Sequence[Path]) -> np.ndarray:
    """Return numbers ``[N]`` int64, equal for files of equal bytes; only files of equal length are read."""
    lengths = [path.stat().st_size for path in paths]
    shared = {length for length, count in Counter(lengths).items() if count > 1}
    content: dict[object, int] = {}
    numbers = []
    for position, (path, length) in enumerate(zip(paths, lengths, strict=True)):
        key = (length, hashlib.blake2b(path.read_bytes()).digest()) if length in shared else position
        numbers.append(content.setdefault(key, position))
    return np.array(numbers, dtype=np.int64)


def _thumbnail(image: Image.Image) -> np.ndarray:
    if is_deep(image):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        spread = max(1e-9, float(np.ptp(values)))
        image = Image.fromarray(((values - values.min()) * (255 / spread)).astype(np.uint8))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small)


def _kind(image: Image.Image) -> str:
    if is_deep(image):
        return {"F": "float", "I": "32-bit"}.get(image.mode, "16-bit")
    if image.has_transparency_data:
        return "alpha"
    return {"L": "grey", "1": "grey", "P": "palette", "CMYK": "CMYK"}.get(image.mode, "colour")


def _check(split: Split, pictures: dict[int, Picture]) -> list[Finding]:
    """Find sizes that differ from the annotations, and pictures that training can't read or reads in part."""
    swapped, other, unsupported, animated = [], [], [], []
    for row, picture in pictures.items():
        label = split.images.label(row)
        width, height = split.images.sizes[row].tolist()
        sizes = {picture.size, picture.size[::-1]} if picture.turned else {picture.size}
        if width == width and height == height and (width, height) not in sizes:
            stated = f"{label} ({picture.size[0]} x {picture.size[1]}, annotated as {width:.0f} x {height:.0f})"
            (swapped if (height, width) == picture.size else other).append(stated)
        if picture.kind == "unsupported":
            unsupported.append(label)
        if picture.frames > 1:
            animated.append(label)
    kinds = {
        "image_size_swapped": swapped,
        "image_size_differs": other,
        "image_mode": unsupported,
        "image_animated": animated,
    }
    found = [Finding(kind, split.name, len(ids), len(pictures), "images", ids) for kind, ids in kinds.items()]
    return [*_check_depth(split, pictures), *found]


def _check_depth(split: Split, pictures: dict[int, Picture]) -> list[Finding]:
    """Find pictures of more than 8 bits that do not use all of them, such as 12 bits in 16-bit files."""
    deep = {row: picture for row, picture in pictures.items() if picture.largest}
    if not deep:
        return []
    largest = max(picture.largest for picture in deep.values())
    level = white_level_of(largest, floating=any(picture.kind == "float" for picture in deep.values()))
    if level == 65535:
        return []
    names = [split.images.label(row) for row in deep]
    note = f"their largest value is {largest:,g}, so white is {level:,g}"
    return [Finding("image_depth", split.name, len(names), len(pictures), "images", names, note)]
