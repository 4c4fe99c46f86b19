"""Finds pictures that look the same, by small thumbnails.

A perceptual hash finds pictures that were saved again, resized, or made a little brighter or darker, and thumbnails
confirm them. The hash is pHash, the signs of low frequencies: C. Zauner, "Implementation and Benchmarking of Perceptual
Image Hash Functions" (2010), section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn

from dino_detector.data.pictures.bit_depth import is_deep

THUMBNAIL = 32
"""side of a thumbnail in pixels"""
ROBOFLOW = re.compile(r"\.rf\.[0-9A-Za-z]{16,}(?=\.|$)")
"""suffix that Roboflow appends to the name of a picture, different for each augmented copy"""
FREQUENCIES = 8
MOST_BITS = 6
"""number of bits of 64 in which hashes of the same picture may differ"""
BANDS = np.array_split(np.arange(FREQUENCIES * FREQUENCIES), MOST_BITS + 1)
"""one band more than differing bits, so at least one band is equal"""
LARGEST_BUCKET = 2_000
NEIGHBOURS = 100
"""number of following hashes that each hash is compared with in a larger bucket"""
CHUNK = 5_000
LEAST_CONTRAST = 6.0
"""standard deviation of the grey levels below which pictures can't be told apart"""
MEAN_DIFFERENCE = 0.2
LARGEST_DIFFERENCE = 1.2
"""largest differences of two thumbnails of the same picture, on average and at the 99th percentile, in units of
contrast"""


def at_low_resolution(image: Image.Image) -> None:
    """Let a JPEG that was opened be decoded at a fraction of its size, enough for a thumbnail."""
    image.draft("L", (2 * THUMBNAIL, 2 * THUMBNAIL))


def thumbnail_of(image: Image.Image) -> np.ndarray:
    """Return a grey picture ``[32, 32]`` uint8 of an open picture, stretched to a square."""
    if is_deep(image):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        spread = max(1e-9, float(np.ptp(values)))
        image = Image.fromarray(((values - values.min()) * (255 / spread)).astype(np.uint8))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small)


def similar_pairs(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """Return pairs ``[P, 2]`` int64 of pictures that look the same, in order; equal hashes form a chain."""
    flat = np.array(thumbnails, np.uint8).reshape(-1, THUMBNAIL * THUMBNAIL)
    deviations = np.concatenate([np.zeros(0), *(part.std(axis=1) for part in chunks(flat))])
    kept = np.flatnonzero(deviations >= LEAST_CONTRAST)
    if len(kept) < 2:
        return np.zeros((0, 2), np.int64)
    flat = flat[kept]
    bits = np.concatenate([_perceptual_bits(part) for part in chunks(flat)])
    hashes = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    order = np.argsort(hashes, kind="stable")
    leaders = order[np.r_[True, np.diff(hashes[order]) > 0]]  # the first of equal hashes
    equal = np.column_stack([order[:-1], order[1:]])[hashes[order[:-1]] == hashes[order[1:]]]
    candidates = np.vstack([equal, leaders[_close_hashes(bits[leaders], hashes[leaders])]])
    same = [_same_picture(flat[part[:, 0]], flat[part[:, 1]]) for part in chunks(candidates)]
    pairs = candidates[np.concatenate([np.zeros(0, bool), *same])]
    return np.unique(np.sort(kept[pairs], axis=1), axis=0)


def _perceptual_bits(flat: np.ndarray) -> np.ndarray:
    """Return which of the 8 x 8 lowest frequencies, without the mean, exceed their median, ``[N, 64]`` bool."""
    waves = dctn(flat.reshape(-1, THUMBNAIL, THUMBNAIL).astype(np.float64), axes=(1, 2))
    low = waves[:, 1 : FREQUENCIES + 1, 1 : FREQUENCIES + 1].reshape(len(flat), -1)
    return low > np.median(low, axis=1, keepdims=True)


def _close_hashes(bits: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return pairs ``[P, 2]`` of different hashes that differ in at most `MOST_BITS` bits."""
    found, places = [np.zeros((0, 2), np.int64)], np.arange(len(hashes))
    for band in BANDS:
        key = bits[:, band] @ (1 << np.arange(len(band)))
        order = np.lexsort((hashes, key))
        key = key[order]
        limit = np.where(np.bincount(key)[key] > LARGEST_BUCKET, NEIGHBOURS, LARGEST_BUCKET)
        for rows, others in neighbours(key, places, places + limit):
            pairs = np.column_stack([order[rows], order[others]])
            found.append(pairs[np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= MOST_BITS])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _same_picture(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return which pairs of thumbnails ``[P, 1024]`` agree after normalising brightness and contrast, ``[P]`` bool."""
    one, other = (
        (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
        for values in (one.astype(np.float32), other.astype(np.float32))
    )
    apart = np.abs(one - other)
    far = np.partition(apart, -11, axis=1)[:, -11]  # 99th percentile of 1024
    return (apart.mean(axis=1) <= MEAN_DIFFERENCE) & (far <= LARGEST_DIFFERENCE)


def chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a few thousand rows at a time, to bound memory."""
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def neighbours(group: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows i and j, i < j, of all pairs with equal groups and ``start[j] <= stop[i]``.

    Args:
        group: ``[N]``, ascending.
        start: ``[N]``, ascending within a group.
        stop: ``[N]``.
    """
    rows, step = np.arange(len(group)), 1  # each row is compared with its next one, then with the one after it, ...
    while len(rows := rows[rows + step < len(group)]):
        rows = rows[(group[rows] == group[rows + step]) & (start[rows + step] <= stop[rows])]
        yield rows, rows + step
        step += 1
