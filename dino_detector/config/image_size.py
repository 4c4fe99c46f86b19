"""The size of the network's input or of a tile."""

from __future__ import annotations

import re
from typing import NamedTuple

from dino_detector.errors import SettingError


class ImageSize(NamedTuple):
    """Height and width in pixels, of the network's input or of a tile."""

    height: int
    width: int

    @classmethod
    def parse(cls, value: int | str | ImageSize | list[int] | tuple[int, ...], name: str = "image_size") -> ImageSize:
        """Return the size for ``518`` or ``"518"``, a square, or for ``"504x896"`` or ``[504, 896]``, height x width.

        Args:
            value: the size.
            name: the name of the setting in messages.

        Raises:
            InputError: the value has another form.
        """
        if isinstance(value, (list, tuple)):
            numbers = [str(number) for number in value]
        else:
            numbers = re.split("[xX]", str(value).strip())
        if len(numbers) not in (1, 2) or not all(re.fullmatch("[1-9][0-9]*", number) for number in numbers):
            raise SettingError(name, f"{value!r} is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)")
        return cls(int(numbers[0]), int(numbers[-1]))

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
