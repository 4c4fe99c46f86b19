"""Height and width of the network's input, or of a tile."""

from __future__ import annotations

import re
from typing import NamedTuple

from dino_detector.errors import InputError


class ImageSize(NamedTuple):
    """Height and width in pixels, of the network's input or of a tile."""

    height: int
    width: int

    @classmethod
    def parse(cls, value: int | str | ImageSize | list[int] | tuple[int, ...], name: str = "image_size") -> ImageSize:
        """``518`` and ``"518"`` are square; ``"504x896"`` and ``[504, 896]`` are height x width.

        Raises:
            InputError: for anything else, with the ``name`` of the setting.
        """
        if isinstance(value, (list, tuple)):
            numbers = [str(number) for number in value]
        else:
            numbers = re.split("[xX]", str(value).strip())
        if len(numbers) not in (1, 2) or not all(re.fullmatch("[1-9][0-9]*", number) for number in numbers):
            raise InputError(f"{name} {value!r} is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)")
        return cls(int(numbers[0]), int(numbers[-1]))

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
