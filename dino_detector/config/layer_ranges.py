"""Values for ranges of backbone layers, such as ``{"0-5": 4, "6-11": 16}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from dino_detector.errors import SettingError

T = TypeVar("T")


def by_layer(ranges: Mapping[str, T], *, setting: str) -> dict[int, T]:
    """Return the value of each layer in the ranges.

    Args:
        ranges: values by layer, ``"7"``, or by range, ``"6-11"``, with both ends included; layers are counted from 0.
        setting: the name of the setting in messages.

    Raises:
        InputError: a key is no layer and no range, or a layer is in two ranges.
    """
    values: dict[int, T] = {}
    for text, value in ranges.items():
        match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise SettingError(
                setting, f'has {text!r}, which is neither a layer, such as "7", nor a range, such as "6-11"'
            )
        for layer in range(int(match[1]), int(match[2] or match[1]) + 1):
            if layer in values:
                raise SettingError(setting, f"has layer {layer} in two ranges, the second is {text!r}")
            values[layer] = value
    return values
