"""Values for ranges of backbone layers, such as ``{"0-5": 4, "6-11": 16}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from dino_detector.errors import InputError

T = TypeVar("T")


def by_layer(ranges: Mapping[str, T], *, setting: str) -> dict[int, T]:
    """The value of each layer that a setting names.

    Args:
        ranges: a value for a layer, ``"7"``, or for all from one to another, both included, ``"6-11"``; layers are
            counted from 0.
        setting: its name, for errors.

    Raises:
        InputError: for what is no range, and for a layer that is in two of them.
    """
    values: dict[int, T] = {}
    for text, value in ranges.items():
        match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InputError(
                f'{setting} has {text!r}, which is neither a layer, such as "7", nor a range from a lower to a higher '
                'one, such as "6-11"'
            )
        for layer in range(int(match[1]), int(match[2] or match[1]) + 1):
            if layer in values:
                raise InputError(f"{setting} has layer {layer} in two ranges, the second of which is {text!r}")
            values[layer] = value
    return values
