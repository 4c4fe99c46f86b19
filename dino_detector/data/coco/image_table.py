"""The images of a data set in arrays that worker processes share.

A list of a hundred thousand objects would be copied into every worker, page by page, because each access changes the
reference count of an object. Arrays have one count for all elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np


class ImageRecord(NamedTuple):
    """One entry of ``images``; height and width in pixels."""

    image_id: int
    file_name: str
    height: int
    width: int


class ImageTable(Sequence[ImageRecord]):
    """Images by position.

    Args:
        ids: ``[I]`` int64.
        names: ``[bytes]`` uint8, the file names in UTF-8, one after another.
        ends: ``[I]`` int64, the end of each name in ``names``.
        sizes: ``[I, 2]`` int64, height and width in pixels.
    """

    def __init__(self, *, ids: np.ndarray, names: np.ndarray, ends: np.ndarray, sizes: np.ndarray) -> None:
        self.ids = ids
        self.sizes = sizes
        self._names = names
        self._ends = ends

    @classmethod
    def of(cls, ids: Sequence[int], file_names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> ImageTable:
        """Make a table from columns of the same length."""
        names = [name.encode("utf-8", "surrogatepass") for name in file_names]
        return cls(
            ids=np.array(ids, np.int64),
            names=np.frombuffer(b"".join(names), np.uint8),
            ends=np.cumsum([len(name) for name in names], dtype=np.int64),
            sizes=np.array(sizes, np.int64).reshape(-1, 2),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> ImageTable: ...

    def __getitem__(self, index: int | slice | np.ndarray) -> ImageRecord | ImageTable:
        """Return the image at a position, or a table of several images, such as ``table[:5]``."""
        if isinstance(index, slice | np.ndarray):
            positions = np.arange(len(self))[index]
            names = [self.file_name(position) for position in positions.tolist()]
            return ImageTable.of(self.ids[positions], names, self.sizes[positions])
        height, width = self.sizes[index].tolist()
        return ImageRecord(int(self.ids[index]), self.file_name(range(len(self))[index]), height, width)

    def named(self, file_names: Sequence[str]) -> ImageTable:
        """Return the same images with other file names."""
        return ImageTable.of(self.ids, file_names, self.sizes)

    def file_name(self, index: int) -> str:
        """Return the file name of the image at a position from 0."""
        start = self._ends[index - 1] if index else 0
        return self._names[start : self._ends[index]].tobytes().decode("utf-8", "surrogatepass")

    @property
    def file_names(self) -> list[str]:
        """File names of all images."""
        names, ends = self._names.tobytes(), self._ends.tolist()
        return [names[start:end].decode("utf-8", "surrogatepass") for start, end in zip([0, *ends], ends, strict=False)]
