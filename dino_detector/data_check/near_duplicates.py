"""Finds near duplicates: pictures that were saved again, resized, or made a little brighter or darker.

A perceptual hash finds candidates, and thumbnails confirm them. The hash is pHash, the signs of low frequencies:
C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

THUMBNAIL = 32
"""side of a thumbnail in pixels"""
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


def similar_pairs(thumbnails: np.ndarray) -> np.ndarray:
    """Return pairs ``[P, 2]`` int64 of pictures that look the same, in order; equal hashes form a chain.

    Args:
        thumbnails: ``[N, 32, 32]`` uint8, grey.
    """
    flat = thumbnails.reshape(len(thumbnails), -1)
    deviations = np.concatenate([np.zeros(0), *(part.std(axis=1) for part in _chunks(flat))])
    kept = np.flatnonzero(deviations >= LEAST_CONTRAST)
    if len(kept) < 2:
        return np.zeros((0, 2), np.int64)
    flat = flat[kept]
    bits = np.concatenate([perceptual_bits(part) for part in _chunks(flat.reshape(-1, THUMBNAIL, THUMBNAIL))])
    hashes = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    order = np.argsort(hashes, kind="stable")
    leaders = order[np.r_[True, np.diff(hashes[order]) > 0]]  # the first of equal hashes
    chain = np.column_stack([order[:-1], order[1:]])[hashes[order[:-1]] == hashes[order[1:]]]
    candidates = np.vstack([chain, leaders[_close_hashes(bits[leaders], hashes[leaders])]])
    pairs = candidates[_same_picture(flat, candidates)]
    return np.unique(np.sort(kept[pairs], axis=1), axis=0)


def perceptual_bits(thumbnails: np.ndarray) -> np.ndarray:
    """Return which of the 8 x 8 lowest frequencies, without the mean, exceed their median, ``[N, 64]`` bool."""
    angles = np.pi * (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL
    waves = np.cos(np.arange(1, FREQUENCIES + 1)[:, None] * angles)  # [8, 32]
    low = waves @ thumbnails @ waves.T
    low = low.reshape(len(low), -1)
    return low > np.median(low, axis=1, keepdims=True)


def _close_hashes(bits: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return pairs ``[P, 2]`` of different hashes that differ in at most `MOST_BITS` bits."""
    found = [np.zeros((0, 2), np.int64)]
    for band in BANDS:
        key = np.packbits(bits[:, band], axis=1).astype(np.int64) @ np.array([256, 1])[: -(-len(band) // 8)]
        order = np.lexsort((hashes, key))
        key = key[order]
        sizes = np.bincount(key)[key]
        limit = np.where(sizes > LARGEST_BUCKET, NEIGHBOURS, LARGEST_BUCKET)
        active, step = np.arange(len(order)), 1
        while len(active := active[(active + step < len(order)) & (limit[active] >= step)]):
            active = active[key[active] == key[np.minimum(active + step, len(order) - 1)]]
            one, other = order[active], order[active + step]
            close = np.bitwise_count(hashes[one] ^ hashes[other]) <= MOST_BITS
            found.append(np.column_stack([one[close], other[close]]))
            step += 1
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _same_picture(flat: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return which pairs of thumbnails ``[N, 1024]`` agree after normalising brightness and contrast, ``[P]``."""
    same = [np.zeros(0, dtype=bool)]
    for part in _chunks(pairs):
        one, other = (
            (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
            for values in (flat[part[:, 0]].astype(np.float32), flat[part[:, 1]].astype(np.float32))
        )
        apart = np.abs(one - other)
        far = np.partition(apart, -11, axis=1)[:, -11]  # 99th percentile of 1024
        same.append((apart.mean(axis=1) <= MEAN_DIFFERENCE) & (far <= LARGEST_DIFFERENCE))
    return np.concatenate(same)


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a few thousand rows at a time, to bound memory."""
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
