"""The same picture more than once: within a split a waste, in two splits a number that can't be trusted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data_check.fingerprints import fingerprints
from dino_detector.data_check.layouts import plain_name
from dino_detector.data_check.lookalikes import similar_pairs

if TYPE_CHECKING:
    from dino_detector.data_check.pictures import Opened

ROBOFLOW = re.compile(r"\.rf\.[0-9A-Za-z]{16,}(?=\.|$)")
"""what Roboflow appends to the name of a picture, different for each copy that it augments"""
FEWEST_BOXES = 2
"""boxes of an image from which equal boxes are no chance"""
DENSE = 0.9
"""share of the numbers up to the largest that a count from one has at least"""
WEIGHTS = {("train", "val"): 1.0, ("train", "test"): 0.9}
OTHER_WEIGHT = 0.6


class Place(NamedTuple):
    """An image: the position of its split, and its position there."""

    split: int
    index: int


class Evidence(NamedTuple):
    """What two images have in common: the finding it makes between splits, and a key for each image, None for none."""

    kind: str
    keys: list[dict[int, object]]


def check_copies(splits: Sequence[Split], opened: Opened | None) -> list[Finding]:
    """Images that appear twice within a split, and in two splits.

    Every image counts once, by the strongest evidence: bytes, looks, address, name, boxes. What was opened is judged by
    what it shows, and not by its name or its boxes.
    """
    findings: list[Finding] = []
    looks = _Looks(splits, opened) if opened is not None else None
    seen = looks.places if looks else set()
    names_of_classes = dict.fromkeys(name for split in splits for name in split.categories.names)
    classes = {name: number for number, name in enumerate(names_of_classes)}
    keys = [_box_keys(split, number, seen, classes) for number, split in enumerate(splits)]
    same_boxes = Evidence("leak_boxes", keys)
    names = Evidence("leak_name", _keys(splits, seen, _name))
    counts = [_count_of(key[0] for key in of_split.values()) for of_split in names.keys]
    evidence = [Evidence("leak_url", _keys(splits, seen, _address)), names, same_boxes]
    source = Evidence("leak_source", [_source_keys(split) for split in splits])
    for number in range(len(splits)):
        findings += looks.within(number) if looks else []
        findings.append(_same_boxes_within(splits[number], same_boxes.keys[number]))
    for one, other in combinations(range(len(splits)), 2):
        weight = WEIGHTS.get((splits[one].name, splits[other].name), OTHER_WEIGHT)
        shared = _Shared(splits, one, other, weight)
        if looks:
            looks.between(one, other, shared)
        both_count = counts[one] is not None and counts[one] == counts[other]
        plain = [Evidence("leak_plain_name", names.keys)] if both_count else []
        for item in (source, *(item for item in evidence if not (both_count and item is names)), *plain):
            first_of: dict[object, int] = {}
            for index, key in item.keys[one].items():
                first_of.setdefault(key, index)
            for index, key in item.keys[other].items():
                if key in first_of:
                    shared.add(item.kind, index, first_of[key])
        findings += shared.findings()
    return findings


class _Shared:
    """Images of the second of two splits that are in the first too, each by its first evidence."""

    def __init__(self, splits: Sequence[Split], one: int, other: int, weight: float) -> None:
        self.first, self.second, self.weight = splits[one], splits[other], weight
        self.found: dict[int, tuple[str, int]] = {}

    def add(self, kind: str, index: int, twin: int) -> None:
        self.found.setdefault(index, (kind, twin))

    def findings(self) -> Iterable[Finding]:
        by_kind: dict[str, list[str]] = {}
        for index, (kind, twin) in sorted(self.found.items()):
            name, other = self.second.images.label(index), self.first.images.label(twin)
            by_kind.setdefault(kind, []).append(name if name == other else f"{name} = {other}")
        where = f"{self.second.name} in {self.first.name}"
        total = len(self.second.images.ids)
        for kind, pairs in by_kind.items():
            yield Finding(kind, where, len(pairs), total, "images", pairs, weight=self.weight)


class _Looks:
    """Which opened pictures have the same bytes or look the same."""

    def __init__(self, splits: Sequence[Split], opened: Opened) -> None:
        self.splits = splits
        self.all = [Place(*place) for place in zip(opened.split.tolist(), opened.index.tolist(), strict=True)]
        self.places = set(self.all)
        self.groups: dict[int, list[Place]] = {}
        for place, content in zip(self.all, opened.content.tolist(), strict=True):
            self.groups.setdefault(content, []).append(place)
        contents = np.array(list(self.groups), dtype=np.int64)  # each is the position of its first file
        self.pairs = contents[similar_pairs(opened.thumbnails[contents])].tolist()

    def within(self, number: int) -> list[Finding]:
        """Copies in one split, each beside the first."""
        split = self.splits[number]
        exact, near = {}, {}
        for places in self.groups.values():
            mine = [place.index for place in places if place.split == number]
            names = split.images.names
            exact |= {index: mine[0] for index in mine[1:] if names[index] != names[mine[0]]}
        for one, other in self.pairs:
            mine = [next((p.index for p in self.groups[key] if p.split == number), None) for key in (one, other)]
            if None not in mine:
                near.setdefault(max(mine), min(mine))
        return [
            Finding(kind, split.name, len(found), len(split.images.ids), "images", _pairs(split, found))
            for kind, found in (("image_twice", exact), ("image_nearly_twice", near))
        ]

    def between(self, one: int, other: int, shared: _Shared) -> None:
        """Tell what the second of two splits has that is in the first."""
        for places in self.groups.values():
            self._tell("leak_exact", places, places, one, other, shared)
        for first, second in self.pairs:
            self._tell("leak_near", self.groups[first], self.groups[second], one, other, shared)
            self._tell("leak_near", self.groups[second], self.groups[first], one, other, shared)

    def _tell(self, kind: str, here: list[Place], there: list[Place], one: int, other: int, shared: _Shared) -> None:
        twins = [place.index for place in here if place.split == one]
        for place in there:
            if twins and place.split == other:
                shared.add(kind, place.index, twins[0])


def _keys(splits: Sequence[Split], seen: set[Place], key: Callable[[Split, int], object]) -> list[dict[int, object]]:
    """The key of every image that was not opened and has one."""
    return [
        {
            index: found
            for index in range(len(split.images.ids))
            if (number, index) not in seen and (found := key(split, index)) is not None
        }
        for number, split in enumerate(splits)
    ]


def _address(split: Split, index: int) -> str | None:
    return split.images.addresses[index]


def _name(split: Split, index: int) -> tuple[object, ...] | None:
    name = split.images.names[index]
    sizes = [None if np.isnan(side) else side for side in split.images.sizes[index]]
    return None if name is None else (plain_name(name), *sizes)


def _count_of(names: Iterable[str]) -> str | None:
    """What names that merely count have in common, such as ``img_0`` of img_0001.jpg, ...; None for other names.

    Two splits that both count from 0 or 1 have the same names for nothing. Numbers with gaps, or from somewhere, are
    those of a larger whole.
    """
    patterns, numbers = set(), set()
    for name in names:
        stem = name.rsplit(".", 1)[0]
        found = re.findall("[0-9]+", stem)
        patterns.add(re.sub("[0-9]+", "0", stem))
        if not found or len(patterns) > 1:
            return None
        numbers.add(int(found[-1][:18]))
    if not numbers or min(numbers) > 1 or len(numbers) < DENSE * (max(numbers) - min(numbers) + 1):
        return None
    return patterns.pop()


def _source_keys(split: Split) -> dict[int, object]:
    """The name before Roboflow's suffix, of images that have one."""
    names = {index: plain_name(name) for index, name in enumerate(split.images.names) if name}
    stripped = {index: ROBOFLOW.sub("", name) for index, name in names.items() if ROBOFLOW.search(name)}
    return {} if _count_of(stripped.values()) else dict(stripped)


def _box_keys(split: Split, number: int, seen: set[Place], classes: dict[str, int]) -> dict[int, object]:
    """A key for each image of several boxes, equal where size, classes and boxes are; ``classes`` numbers the names."""
    boxes = split.boxes
    rows = np.flatnonzero(split.trained)
    if not len(rows):
        return {}
    label = np.array([classes[name] for name in split.categories.names])[boxes.category[rows]]
    rounded = (boxes.xywh[rows] * 10).round().astype(np.int64)
    _, first = np.unique(fingerprints(boxes.image[rows], label, *rounded.T), return_index=True)
    alone = fingerprints(label[first], *rounded[first].T)  # without the image
    image = boxes.image[rows][first]
    total = np.zeros(len(split.images.ids), np.uint64)
    np.add.at(total, image, alone)
    counts = np.bincount(image, minlength=len(total))
    sizes = np.nan_to_num(split.images.sizes, nan=-1).astype(np.int64)
    keys = fingerprints(total.view(np.int64), counts, *sizes.T).tolist()
    return {
        index: keys[index] for index in np.flatnonzero(counts >= FEWEST_BOXES).tolist() if (number, index) not in seen
    }


def _same_boxes_within(split: Split, keys: dict[int, object]) -> Finding:
    first_of: dict[object, int] = {}
    found = {index: first for index, key in keys.items() if (first := first_of.setdefault(key, index)) != index}
    return Finding("image_boxes_twice", split.name, len(found), len(split.images.ids), "images", _pairs(split, found))


def _pairs(split: Split, found: dict[int, int]) -> list[str]:
    return [f"{split.images.label(index)} = {split.images.label(first)}" for index, first in sorted(found.items())]
