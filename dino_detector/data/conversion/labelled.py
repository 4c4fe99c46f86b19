"""A data set between two formats: pictures with boxes by split, the classes, and notes about what gets lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dino_detector.plain_text import counted, listed


class Box(NamedTuple):
    """A box in pixels; ``label`` is a position in `Labelled.classes`."""

    label: int
    left: float
    top: float
    width: float
    height: float
    crowd: bool = False


@dataclass
class Picture:
    """A labelled picture.

    Attributes:
        name: path below the folder of the split, with slashes.
        file: the picture's file; None if there is none.
        size: width and height in pixels, NaN if unknown.
    """

    name: str
    file: Path | None
    size: tuple[float, float]
    boxes: list[Box] = field(default_factory=list)

    @property
    def known_size(self) -> tuple[int, int] | None:
        """Width and height in pixels; None if unknown."""
        return None if any(map(math.isnan, self.size)) else (int(self.size[0]), int(self.size[1]))

    @property
    def stem(self) -> str:
        """The name without the extension, which a file of labels has, too."""
        return without_extension(self.name)


@dataclass
class Labelled:
    """A data set.

    Attributes:
        splits: pictures by the name of their split; an empty name is a single split that is not train, val or test.
        classes: names of the classes by label.
        ids: number of each class in the source, or its position from 1 if the source numbers no classes.
    """

    splits: dict[str, list[Picture]]
    classes: list[str]
    ids: list[int]

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures of all splits."""
        for pictures in self.splits.values():
            yield from pictures


class Note(NamedTuple):
    """Something that a conversion loses or changes.

    Attributes:
        what: the count and the thing, such as ``3 crowd regions``.
        effect: the consequence.
        items: the names or ids of all that are affected.
    """

    what: str
    effect: str
    items: list[str]

    def line(self, shown: int = 3) -> str:
        """Return the note in one line, with the first items."""
        items = f" ({listed(self.items, shown, longest=100)})" if self.items else ""
        return f"{self.what}{items}: {self.effect}"


class Notes:
    """Collects notes; equal notes are counted together."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], tuple[int, list[str]]] = {}

    def add(self, one: str, effect: str, items: Iterable[str], *, many: str | None = None) -> None:
        """Add items to the note about things called ``one``; ``many`` is the plural if it is not ``one`` with an s."""
        items = list(items)
        self.count(one, effect, len(items), many=many, items=items)

    def count(self, one: str, effect: str, count: int, *, many: str | None = None, items: Iterable[str] = ()) -> None:
        """Add a number of things to a note, with the names of those that have one."""
        if count:
            key = (one, many or f"{one}s", effect)
            before, names = self._found.get(key, (0, []))
            self._found[key] = (before + count, [*names, *items])

    def say(self, what: str, effect: str) -> None:
        """Add a note that counts nothing."""
        self._found[what, "", effect] = (0, [])

    def crowds(self, data: Labelled, title: str) -> None:
        """Add the crowd regions, which the format ``title`` lacks."""
        names = (picture.name for picture in data.pictures() for box in picture.boxes if box.crowd)
        self.add("crowd region", f"{title} has no crowds; it is an ordinary box there", names)

    def unused_classes(self, data: Labelled, title: str) -> None:
        """Add the classes without a box, which are lost as the format ``title`` lists no classes."""
        used = {box.label for picture in data.pictures() for box in picture.boxes}
        names = (name for label, name in enumerate(data.classes) if label not in used)
        effect = f"{title} has no list of classes; left out"
        self.add("class without a box", effect, names, many="classes without a box")

    def all(self) -> list[Note]:
        """Return the notes in the order in which they began."""
        return [
            Note(counted(count, one, many) if count else one, effect, items)
            for (one, many, effect), (count, items) in self._found.items()
        ]


def number(value: float) -> str:
    """Return a coordinate in pixels as text, rounded to a millionth of a pixel, without needless zeros."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def without_extension(name: str) -> str:
    """Return a path without the extension of its last part; dots at the start or end of that part are no extension."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    return f"{folder}{slash}{stem if stem and dot and extension else base}"
