"""Converts the values of one field of all entries of a COCO file; each may be missing or of any type."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from msgspec import UNSET

from dino_detector.data.coco.columns import Id, every
from dino_detector.data.coco.entries import LARGEST_SIDE, WHOLE_NUMBERS

LIMIT = 1e12
"""coordinates and areas of this size or more are mistakes"""
FEWEST_SHIFTED = 3
"""number of distinct category ids that are not off by one by chance"""


def column(entries: list[Any], name: str) -> list[Any]:
    """Return the value of one field of every entry."""
    return list(map(attrgetter(name), entries))


def whole_numbers(values: list[Any]) -> tuple[list[Id], list[int]]:
    """Return ids, and the positions of values that are not 64-bit integers.

    A float such as 17.0 becomes 17. A text such as ``"17"`` also becomes 17, but its position is returned. Other texts
    stay, and other values become None.
    """
    if types(values) <= {int} and (not values or (min(values) in WHOLE_NUMBERS and max(values) in WHOLE_NUMBERS)):
        return values, []
    ids: list[Id] = []
    bad: list[int] = []
    for row, value in enumerate(values):
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and value in WHOLE_NUMBERS:
            ids.append(value)
            continue
        bad.append(row)
        if isinstance(value, str):
            text = value.strip()
            is_number = text.isascii() and text.removeprefix("-").isdigit() and len(text) < 21
            ids.append(int(text) if is_number and int(text) in WHOLE_NUMBERS else value)
        else:
            ids.append(None)
    return ids, bad


def types(values: Sequence[Any]) -> set[type]:
    """Return the types of all values."""
    return set(map(type, values))


def repeated_rows(values: Sequence[Any]) -> list[int]:
    """Return the positions of values that appeared before, without None."""
    if types(values) == {int}:  # a set of a million ids would take longer
        if np.diff(np.sort(np.array(values, np.int64))).all():
            return []
    elif len(set(values)) == len(values):
        return []
    seen: set[Any] = set()
    again = []
    for row, value in enumerate(values):
        if value is not None and value in seen:
            again.append(row)
        seen.add(value)
    return again


def positions_of(wanted: list[Id], listed: list[Id]) -> np.ndarray:
    """Return the first position ``[N]`` int64 of each wanted id in the list, or -1."""
    known, ids = np.array(listed), np.array(wanted)
    if len(listed) and known.dtype == ids.dtype == np.int64:
        order = np.argsort(known, kind="stable")
        found = order[np.searchsorted(known[order], ids).clip(max=len(known) - 1)]
        return np.where(known[found] == ids, found, -1)
    where = {one: row for row, one in reversed(list(enumerate(listed))) if one is not None}
    return np.fromiter((where.get(one, -1) for one in wanted), dtype=np.int64, count=len(wanted))


def shift_of(used: list[Id], listed: list[Id]) -> int:
    """Return the shift, 1 or -1, after which every used id is listed; 0 if none is needed or none fits.

    A few ids can fit by chance. So a shift is believed if one side counts from 0, if the shifted ids are exactly the
    listed ids, or if at least `FEWEST_SHIFTED` ids fit.
    """
    ids, known = set(used) - {None}, set(listed) - {None}
    if ids <= known or not known or not all(isinstance(one, int) for one in ids | known):
        return 0
    counts_from = {1: 0 in ids and 0 not in known, -1: 0 in known and max(ids) > max(known)}
    for shift in (1, -1):
        shifted = {one + shift for one in ids}
        if shifted <= known and (counts_from[shift] or shifted == known or len(ids) >= FEWEST_SHIFTED):
            return shift
    return 0


def boxes_of(values: list[Any]) -> tuple[np.ndarray, list[int], list[int]]:
    """Return boxes ``[M, 4]`` float64, the rows without a box, and the rows whose box is not four finite numbers."""
    if _all_four_numbers(values):
        boxes = np.fromiter(chain.from_iterable(values), np.float64, 4 * len(values)).reshape(-1, 4)
        not_finite = ~every(np.abs(boxes) < LIMIT)  # NaN is not below the limit either
        boxes[not_finite] = np.nan
        return boxes, [], np.flatnonzero(not_finite).tolist()
    boxes = np.full((len(values), 4), np.nan)
    absent, malformed = [], []
    for row, value in enumerate(values):
        if value is UNSET or value is None or value == []:
            absent.append(row)
        elif isinstance(value, list) and len(value) == 4 and all(is_finite(number) for number in value):
            boxes[row] = value
        else:
            malformed.append(row)
    return boxes, absent, malformed


def _all_four_numbers(values: list[Any]) -> bool:
    """Return whether every box is four numbers that float64 can hold."""
    if types(values) == {tuple}:  # msgspec has decoded four floats
        return True
    if types(values) != {list} or set(map(len, values)) != {4}:
        return False
    numbers = list(chain.from_iterable(values))
    return types(numbers) <= {float} or (types(numbers) <= {int, float} and max(map(abs, numbers)) < LIMIT)


def sizes_of(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return widths or heights ``[I]`` float64, and whether each is unusable ``[I]`` bool; unusable ones are NaN."""
    if types(values) <= {int} and -LARGEST_SIDE <= min(values, default=1) <= max(values, default=1) <= LARGEST_SIDE:
        sizes = np.array(values, dtype=np.float64)
        return np.where(sizes < 1, np.nan, sizes), sizes < 1
    numbers, bad = whole_numbers(values)
    sizes = np.array(
        [one if isinstance(one, int) and 1 <= one <= LARGEST_SIDE else np.nan for one in numbers], dtype=np.float64
    )
    sizes[bad] = np.nan  # a size in quotes is read from the picture instead
    return sizes, np.isnan(sizes)


def is_finite(value: Any) -> bool:
    """Return whether a value is a number below `LIMIT` in size; bool is no number."""
    return type(value) in (int, float) and abs(value) < LIMIT


def is_flag(value: Any) -> bool:
    """Return whether a value is 0, 1, True or False."""
    return type(value) in (int, bool) and value in (0, 1)
