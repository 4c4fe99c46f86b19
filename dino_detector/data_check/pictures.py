"""Opens every image once: its true size, what kind it is, whether it is whole, and a thumbnail to compare."""

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
    """What one file holds.

    Attributes:
        size: width and height in pixels as stored.
        turned: whether its EXIF data turns it by a quarter when it is displayed.
        kind: ``16-bit``, ``32-bit``, ``float``, ``grey``, ``CMYK``, ``palette``, ``alpha``, ``colour``, or
            ``unsupported`` for what training can't read.
        frames: 1, or more for an animation.
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
        split: ``[N]`` position of its split.
        index: ``[N]`` position in the images of the split.
        thumbnails: ``[N, 32, 32]`` uint8.
        content: ``[N]`` int64, equal for files of equal bytes.
        kinds: how many pictures there are of each kind, for each split; ``turned`` ones are counted beside.
    """

    split: np.ndarray
    index: np.ndarray
    thumbnails: np.ndarray
    content: np.ndarray
    kinds: list[Counter[str]]


def open_pictures(
    splits: Sequence[Split], files: Sequence[Sequence[Path | None]], *, advance: Callable[[], None]
) -> tuple[Opened, list[Finding]]:
    """Open the files of all splits, and what is wrong with them.

    Args:
        splits: S splits.
        files: for each, the file of each image or None.
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
            for row, result in zip(
                rows, pool.map(lambda row, paths=paths: read_picture(paths[row]), rows), strict=True
            ):
                advance()
                if isinstance(result, Picture):
                    pictures[row] = result
                    kept.append((number, row, paths[row], result))
                else:
                    damaged.append(f"{split.images.label(row)} ({result})")
            total = len(rows)
            findings.append(Finding("image_unreadable", split.name, len(damaged), total, "images", damaged))
            findings += _check(split, pictures)
            kinds.append(_count_kinds(pictures))
    thumbnails = [picture.thumbnail for *_, picture in kept]
    return (
        Opened(
            np.array([number for number, *_ in kept], dtype=np.int64),
            np.array([row for _, row, *_ in kept], dtype=np.int64),
            np.stack(thumbnails) if thumbnails else np.zeros((0, THUMBNAIL, THUMBNAIL), np.uint8),
            same_bytes([path for _, _, path, _ in kept]),
            kinds,
        ),
        findings,
    )


def read_picture(path: Path) -> Picture | str:
    """What a file holds, or in words why it can't be read. A JPEG is decoded at a fraction of its size."""
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
    """``[N]`` int64, equal for files of equal bytes; only files of equal length are read."""
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


def _count_kinds(pictures: dict[int, Picture]) -> Counter[str]:
    kinds = Counter(picture.kind for picture in pictures.values())
    kinds["turned"] = sum(picture.turned for picture in pictures.values())
    return kinds


def _check(split: Split, pictures: dict[int, Picture]) -> list[Finding]:
    """Sizes that the annotations contradict, and kinds that training can't read or reads in part."""
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
    total = len(pictures)
    return [
        *_check_depth(split, pictures),
        *(
            Finding(kind, split.name, len(names), total, "images", names)
            for kind, names in (
                ("image_size_swapped", swapped),
                ("image_size_differs", other),
                ("image_mode", unsupported),
                ("image_animated", animated),
            )
        ),
    ]


def _check_depth(split: Split, pictures: dict[int, Picture]) -> list[Finding]:
    """Pictures of more than 8 bits that do not use all of them, such as 12 bits in files of 16."""
    deep = {row: picture for row, picture in pictures.items() if picture.largest}
    if not deep:
        return []
    floating = any(picture.kind == "float" for picture in deep.values())
    level = white_level_of(max(picture.largest for picture in deep.values()), floating=floating)
    if level == 65535:
        return []
    names = [split.images.label(row) for row in deep]
    note = f"their largest value is {max(picture.largest for picture in deep.values()):,g}, so white is {level:,g}"
    return [Finding("image_depth", split.name, len(names), len(pictures), "images", names, note)]
