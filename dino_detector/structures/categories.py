"""Category ids of a data set, and the contiguous labels that the network uses in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dino_detector.errors import InputError
from dino_detector.plain_text import columns, plain, quoted

LONGEST_SHOWN = 40
"""longest name in terminals and pictures, in columns"""
MOST_LISTED = 8
"""most classes that a message lists"""


@dataclass(frozen=True)
class Categories:
    """The classes of a data set, ordered by ascending id; the label of a class is its position.

    Ids may start at 0 or 1 and have gaps. Both tuples hold plain Python values, which a checkpoint can store.

    Example:
        >>> categories = Categories(ids=(1, 3, 7), names=("cat", "dog", "owl"))
        >>> categories.label(7), categories.ids[2], categories.names[2]
        (2, 7, 'owl')
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.names)
        assert list(self.ids) == sorted(set(self.ids)), "category ids must ascend and not repeat"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def distinct_names(self) -> tuple[str, ...]:
        """Return the names ``[C]``; a name that several classes share has the id behind it."""
        return distinct(self.ids, self.names)

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """Return names ``[C]`` for terminals and pictures: distinct, short, on one line, without control characters."""
        return distinct(self.ids, [plain(name, LONGEST_SHOWN) for name in self.names])

    def as_coco(self) -> list[dict[str, int | str]]:
        """Return the list ``categories`` of a COCO file."""
        return [{"id": number, "name": name} for number, name in zip(self.ids, self.names, strict=True)]

    def listed(self) -> str:
        """Return ids and names for a message: ``1 red, 2 blue``."""
        pairs = [f"{number} {plain(name)}" for number, name in zip(self.ids, self.names, strict=True)]
        return ", ".join(pairs[:MOST_LISTED]) + (f", ... ({len(pairs)} in all)" if len(pairs) > MOST_LISTED else "")

    def label(self, category_id: int) -> int:
        """Return the label of a category id; raise `InputError` if the data set does not have the id."""
        if category_id not in self.ids:
            raise InputError(f"category id {category_id} is unknown; known are {self.listed()}")
        return self.ids.index(category_id)


def distinct(ids: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    """Return the names; a name that several classes share has the id behind it."""
    shared = {name for name, count in Counter(names).items() if count > 1}
    return tuple(f"{name} ({number})" if name in shared else name for number, name in zip(ids, names, strict=True))


def check_categories(categories: Categories, *, known: Categories, source: Path, known_source: Path) -> None:
    """Raise `InputError`, with the remedy, unless ``known`` has every category with the same id and name."""
    names = dict(zip(known.ids, known.names, strict=True))
    for category_id, name in zip(categories.ids, categories.names, strict=True):
        if names.get(category_id) != name:
            has = f"calls it {quoted(names[category_id])}" if category_id in names else "has no such id"
            lists = f"; one has {categories.listed()}, the other {known.listed()}"
            remedy = "give both files the same ids and names"
            if set(categories.names) <= set(known.names):
                remedy = "the names agree, so --by_name compares the classes by name"
            elif name not in known.names:
                remedy += f", or remove the boxes of {quoted(name)}"
            raise InputError(
                f"{source}: category {category_id} is {quoted(name)}, but {known_source} {has}{lists}: {remedy}"
            )


def side_by_side(known: Categories, found: Categories, *, titles: tuple[str, str]) -> list[str]:
    """Return lines with the ids and names of two lists of classes, the ids that differ first."""
    first, second = (dict(zip(one.ids, one.names, strict=True)) for one in (known, found))
    ids = sorted(first.keys() | second.keys(), key=lambda number: (first.get(number) == second.get(number), number))
    shown = [(str(number), *(plain(one.get(number, "-"), LONGEST_SHOWN) for one in (first, second))) for number in ids]
    more = len(shown) - MOST_LISTED
    rows = [("id", *(plain(title, LONGEST_SHOWN) for title in titles)), *shown[:MOST_LISTED]]
    widths = [max(columns(row[place]) for row in rows) for place in range(2)]
    lines = [
        "  ".join([*(cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    return lines + ([f"and {more:,} more"] if more > 0 else [])


def require_num_classes(num_classes: int | None, categories: Categories, *, source: Path, left_out: int = 0) -> None:
    """Raise `InputError` if ``num_classes`` is given and differs from the number of classes in ``source``.

    ``left_out`` is the number of further classes, which have no box.
    """
    if num_classes not in (None, len(categories)):
        without = f" with boxes, and {left_out} without (--keep_empty_classes keeps them)" if left_out else ""
        raise InputError(
            f"{source}: has {len(categories)} categories{without}, but --num_classes is {num_classes}; leave it out "
            "(ids may have gaps, so the highest id is not the number)"
        )
