"""Divides the images of a data set into training and validation images, by their content.

The hash of its file decides the side of an image, so the side does not depend on the order or the number of the other
images. Images that show nearly the same form a group, and a group has one side: near-copies, copies that Roboflow has
augmented, and frames of one video. Otherwise the AP would measure how well the detector remembers images, not how well
it detects. The hash of one member decides the side of a group, so a new member can move a group. File names tell the
frames of a video and Roboflow's copies, so new names can move an image, too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from dino_detector.data.pictures.look_alikes import (
    LEAST_CONTRAST,
    ROBOFLOW,
    THUMBNAIL,
    at_low_resolution,
    chunks,
    similar_pairs,
    thumbnail_of,
)
from dino_detector.data.pictures.opening import MOST_THREADS, opened
from dino_detector.errors import InputError
from dino_detector.plain_text import counted

log = logging.getLogger(__name__)

FRAME = re.compile(r"^(.*?)[ _.-]*(?:frame|frm|mp4|avi|mov|mkv|webm|m4v)[ _.-]*[0-9]+", re.IGNORECASE)
"""name of a frame of a video; its beginning is the name of the video"""
LEAST_CORRELATION = 0.8
"""least correlation of the thumbnails of neighbouring frames of one video; other pictures have less"""
FAR_OFF = 0.5
"""largest difference from the wanted number of validation images, as a share of that number, without a warning"""
ANNOUNCED = 5_000
"""number of images from which the run says that it looks at them"""


class HeldOut(NamedTuple):
    """The validation images ``is_val`` ``[I]`` bool, the division in one line, and warnings about it."""

    is_val: np.ndarray
    summary: str
    warnings: tuple[str, ...]


class Looks(NamedTuple):
    """The hash of each file ``[I, 2]`` uint64, and thumbnails ``[I, 32, 32]`` uint8, black if a file is unreadable.

    The first number of a hash orders the images of a group, the second decides the side.
    """

    digests: np.ndarray
    thumbnails: np.ndarray
    readable: np.ndarray


def hold_out(folder: Path, names: Sequence[str], fraction: float, *, source: Path) -> HeldOut:
    """Choose validation images; unreadable images are for training, which skips them.

    Args:
        folder: folder of the images.
        names: their files in the folder.
        fraction: wanted fraction of validation images, above 0 and below 1.
        source: the annotations, for messages.

    Raises:
        InputError: there are fewer than two readable images.
    """
    if len(names) >= ANNOUNCED:
        log.info("looking at %s images for near-copies and frames of one video", f"{len(names):,}")
    looks = _look_at(folder, names)
    if looks.readable.sum() < 2:
        found = counted(int(looks.readable.sum()), "image")
        raise InputError(
            f"{source}: has {found} that can be read, and --val_fraction needs 2; add images or leave that setting out"
        )
    group = _grouped(names, looks)
    warnings = []
    if len(np.unique(group[looks.readable])) == 1:
        warnings.append(
            "all images look like near-copies or frames of one video, so --val_fraction divides them one by one, and "
            "the AP will be higher than on new images; add images of another scene"
        )
        group = np.arange(len(names))
    is_val = _sides(group, looks, fraction)
    sizes = np.bincount(group)
    groups = int((sizes > 1).sum())
    wanted = fraction * len(names)
    if abs(is_val.sum() - wanted) > max(1, FAR_OFF * wanted):
        largest = int(sizes.max())
        because = "because the content of each image decides its side, and there are few groups"
        if largest > FAR_OFF * wanted:
            because = f"because a group of {largest:,} images has one side"
        share = is_val.sum() / len(names)
        warnings.append(f"the validation images are a fraction of {share:.2f}, not {fraction:g}, {because}")
    stays = f"; {counted(groups, 'group')} of near-copies and frames of one video {'stays' if groups == 1 else 'stay'}"
    summary = (
        f"{(~is_val).sum():,} training and {is_val.sum():,} validation images (--val_fraction {fraction:g}"
        f"{stays + ' on one side' if groups else ''})"
    )
    return HeldOut(is_val, summary, tuple(warnings))


def near_copies(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Return the number of the group of each image, ``[I]`` int64: near-copies and frames of one video share one."""
    return _grouped(names, _look_at(folder, names))


def _sides(group: np.ndarray, looks: Looks, fraction: float) -> np.ndarray:
    """Return the validation images ``[I]`` bool of groups ``[I]``; both sides have at least one readable image."""
    order, decides = looks.digests.T
    by_hash = np.lexsort((order, group))
    _, first = np.unique(group[by_hash], return_index=True)
    representative = by_hash[first]  # [G] the image of each group with the smallest hash
    position = np.searchsorted(group[representative], group)  # [I]
    value = decides[representative] / 2.0**64  # [G] in 0..1
    has_readable = np.bincount(position, weights=looks.readable) > 0
    is_val = (value < fraction) & has_readable
    if not is_val.any():
        is_val[np.flatnonzero(has_readable)[value[has_readable].argmin()]] = True
    if not (~is_val & has_readable).any():
        is_val[np.flatnonzero(has_readable)[value[has_readable].argmax()]] = False
    return is_val[position] & looks.readable


def _look_at(folder: Path, names: Sequence[str]) -> Looks:
    """Hash every file, and make its thumbnail; a JPEG is decoded at a fraction of its size."""

    def look(name: str) -> tuple[bytes, np.ndarray | None]:
        path = folder / name
        try:
            digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
            with opened(path, prepare=at_low_resolution) as image:
                return digest, thumbnail_of(image)
        except (InputError, OSError):
            return b"\xff" * 16, None  # it never decides for its group

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(look, names))
    black = np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)
    return Looks(
        np.frombuffer(b"".join(digest for digest, _ in found), ">u8").reshape(-1, 2).astype(np.uint64),
        np.array([black if thumbnail is None else thumbnail for _, thumbnail in found]),
        np.array([thumbnail is not None for _, thumbnail in found]),
    )


def _grouped(names: Sequence[str], looks: Looks) -> np.ndarray:
    """Return the number of the group of each image, ``[I]`` int64 from 0; groups have no gaps in their numbers."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    readable = np.flatnonzero(looks.readable)
    videos = [_video_of(name) for name in names]
    if len(set(videos)) == 1:  # the videos can't be told apart by their names
        videos = [None] * len(names)
    pairs = [
        readable[similar_pairs(looks.thumbnails[readable])],
        _chained(readable.tolist(), [looks.digests[row].tobytes() for row in readable]),
        _chained(range(len(names)), [_roboflow_source(name) for name in names]),
        _chained(range(len(names)), videos),
        _neighbouring_frames(names, looks),
    ]
    one, other = np.concatenate(pairs).T
    links = coo_array((np.ones(len(one)), (one, other)), shape=(len(names),) * 2)
    return connected_components(links, directed=False)[1].astype(np.int64)


def _chained(rows: Iterable[int], keys: Sequence[Hashable]) -> np.ndarray:
    """Return pairs ``[P, 2]`` that link the images of each key; None links nothing."""
    members = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        if key is not None:
            members[key].append(row)
    pairs = [pair for some in members.values() for pair in pairwise(some)]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _video_of(name: str) -> Hashable:
    """Return the folder and the name of the video of a frame; None for a name that does not speak of a video."""
    path = PurePosixPath(ROBOFLOW.sub("", name))
    found = FRAME.match(path.stem)
    return None if found is None else (path.parent, found[1])


def _roboflow_source(name: str) -> str | None:
    """Return the name before Roboflow's suffix; None for a name without one."""
    return ROBOFLOW.sub("", PurePosixPath(name).name) if ROBOFLOW.search(name) else None


def _neighbouring_frames(names: Sequence[str], looks: Looks) -> np.ndarray:
    """Return pairs ``[P, 2]`` of images that follow each other by the numbers in their names, and look alike."""
    series: dict[Hashable, list[tuple[list[int], int]]] = defaultdict(list)
    for row, name in enumerate(names):
        path = PurePosixPath(ROBOFLOW.sub("", name))
        numbers = re.findall("[0-9]+", path.stem)
        if numbers and looks.readable[row]:
            series[path.parent, re.sub("[0-9]+", "0", path.stem)].append(([int(one) for one in numbers], row))
    in_order = [[row for _, row in sorted(members)] for members in series.values()]
    pairs = np.array([pair for rows in in_order for pair in pairwise(rows)], np.int64).reshape(-1, 2)
    alike = [_correlations(looks.thumbnails[part[:, 0]], looks.thumbnails[part[:, 1]]) for part in chunks(pairs)]
    return pairs[np.concatenate([np.zeros(0), *alike]) >= LEAST_CORRELATION]


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation ``[P]`` of grey thumbnails ``[P, 32, 32]``; 0 where a picture has one colour."""
    first, second = (values.reshape(len(values), -1).astype(np.float32) for values in (one, other))
    first, second = (values - values.mean(axis=1, keepdims=True) for values in (first, second))
    spread = np.sqrt((first**2).mean(axis=1)), np.sqrt((second**2).mean(axis=1))
    told_apart = (spread[0] >= LEAST_CONTRAST) & (spread[1] >= LEAST_CONTRAST)
    product = np.where(told_apart, spread[0] * spread[1], 1.0)
    return np.where(told_apart, (first * second).mean(axis=1) / product, 0.0)
