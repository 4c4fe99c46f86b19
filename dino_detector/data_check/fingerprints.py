"""64-bit numbers that stand for rows of a table: equal for equal rows, and for others practically never."""

from __future__ import annotations

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, as in Knuth's multiplicative hashing"""


def fingerprints(*columns: np.ndarray) -> np.ndarray:
    """``[N]`` uint64 of int64 columns ``[N]`` each."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ np.ascontiguousarray(column, np.int64).view(np.uint64)) * MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return mixed * MULTIPLIER ^ (mixed >> np.uint64(32))
