"""Category ids of a data set and the contiguous labels that stand for them inside the network."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dino_detector.errors import InputError


@dataclass(frozen=True)
class Categories:
    """The classes of a data set, ordered by ascending id; the label of a class is its position.

    Ids are the data set's own: they may start at 0 or 1 and have gaps. Both tuples hold plain Python values, so they
    can live in a checkpoint.

    Attributes:
        ids: ``[C]`` category ids, ascending and unique.
        names: ``[C]`` the name of each.

    Example:
        >>> categories = Categories(ids=(1, 3, 7), names=("cat", "dog", "owl"))
        >>> categories.label(7), categories.id(2), categories.name(2)
        (2, 7, 'owl')
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.names)
        assert list(self.ids) == sorted(set(self.ids)), "category ids must ascend and not repeat"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def distinct_names(self) -> tuple[str, ...]:
        """``[C]`` names with the id behind those that several classes share."""
        shared = {name for name, count in Counter(self.names).items() if count > 1}
        return tuple(
            f"{name} ({number})" if name in shared else name for number, name in zip(self.ids, self.names, strict=True)
        )

    def label(self, category_id: int) -> int:
        """Label of a category id; raises `InputError` for an id that the data set does not have."""
        if category_id not in self.ids:
            raise InputError(f"category id {category_id} is unknown; known ids are {', '.join(map(str, self.ids))}")
        return self.ids.index(category_id)

    def id(self, label: int) -> int:
        """Category id of a label, ``0 <= label < C``."""
        assert 0 <= label < len(self.ids)
        return self.ids[label]

    def name(self, label: int) -> str:
        """Name of a label, ``0 <= label < C``."""
        assert 0 <= label < len(self.ids)
        return self.names[label]


def check_categories(categories: Categories, *, known: Categories, source: Path, known_source: Path) -> None:
    """Raise `InputError` unless every category is known by the same id and name."""
    names = dict(zip(known.ids, known.names, strict=True))
    for category_id, name in zip(categories.ids, categories.names, strict=True):
        if names.get(category_id) != name:
            has = f"calls it {names[category_id]!r}" if category_id in names else "has no such id"
            raise InputError(
                f"{source}: category {category_id} is {name!r}, but {known_source} {has}; "
                "both must come from one set of categories"
            )


def require_num_classes(num_classes: int | None, categories: Categories, *, source: Path) -> None:
    """Raise `InputError` where a number of classes was asked for that is not that of ``source``."""
    if num_classes not in (None, len(categories)):
        raise InputError(
            f"{source}: has {len(categories)} categories, but --num_classes is {num_classes}; leave it out (ids may "
            "have gaps, so the highest id is not the number)"
        )
