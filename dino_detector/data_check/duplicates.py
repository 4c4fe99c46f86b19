"""Finds the same picture twice: within a split, and in two splits, where it makes metrics untrustworthy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data_check.boxes import fingerprints
from dino_detector.data_check.layouts import plain_name
from dino_detector.data_check.near_duplicates import similar_pairs

if TYPE_CHECKING:
    from dino_detector.data_check.pictures import Opened

ROBOFLOW = re.compile(r"\.rf\.[0-9A-Za-z]{16,}(?=\.|$)")
"""suffix that Roboflow appends to the name of a picture, different for each augmented copy"""
FEWEST_BOXES = 2
"""number of boxes of an image from which equal boxes are no coincidence"""
DENSE = 0.9
"""least share of used numbers in a sequence that counts from 0 or 1"""
WEIGHTS = {("train", "val"): 1.0, ("train", "test"): 0.9}
OTHER_WEIGHT = 0.6

Keys = dict[int, object]
"""a key for each image of a split that has one, equal for images that may be the same picture"""
Match = tuple[str, int, int]
"""kind of finding, image of the second split, image of the first split"""


class ImageRef(NamedTuple):
    """An image: the position of its split, and its position there."""

    split: int
    index: int


def check_duplicates(splits: Sequence[Split], opened: Opened | None) -> list[Finding]:
    """Find images that appear twice within a split, or in two splits.

    Each image counts once, by the strongest evidence: bytes, looks, source, address, name, boxes. Opened pictures are
    judged by their pixels, not by their names or boxes.
    """
    looks = _Looks(splits, opened) if opened is not None else None
    seen = looks.refs if looks else set()
    names_of_classes = dict.fromkeys(name for split in splits for name in split.categories.names)
    classes = {name: number for number, name in enumerate(names_of_classes)}
    boxes = [_box_keys(split, number, seen, classes) for number, split in enumerate(splits)]
    names = _keys(splits, seen, _name_and_size)
    addresses = _keys(splits, seen, lambda split, index: split.images.addresses[index])
    sources = [_source_keys(split) for split in splits]
    counters = [_counter_pattern(key[0] for key in of_split.values()) for of_split in names]
    findings: list[Finding] = []
    for number, split in enumerate(splits):
        findings += looks.within(number) if looks else []
        same_boxes = _matches("image_boxes_twice", boxes[number], boxes[number])
        findings.append(
            _copies("image_boxes_twice", split, {copy: first for _, copy, first in same_boxes if copy != first})
        )
    for one, other in combinations(range(len(splits)), 2):
        evidence = [("leak_source", sources), ("leak_url", addresses), ("leak_name", names), ("leak_boxes", boxes)]
        if counters[one] is not None and counters[one] == counters[other]:  # equal names are a coincidence
            evidence[2:] = [("leak_boxes", boxes), ("leak_plain_name", names)]
        strongest: dict[int, tuple[str, int]] = {}
        matches = (_matches(kind, keys[one], keys[other]) for kind, keys in evidence)
        for kind, index, twin in chain(looks.between(one, other) if looks else (), *matches):
            strongest.setdefault(index, (kind, twin))
        findings += _leaks(splits[one], splits[other], strongest)
    return findings


class _Looks:
    """Groups opened pictures by their bytes, and pairs groups that look the same."""

    def __init__(self, splits: Sequence[Split], opened: Opened) -> None:
        self.splits = splits
        refs = [ImageRef(*ref) for ref in zip(opened.split.tolist(), opened.index.tolist(), strict=True)]
        self.refs = set(refs)
        self.groups: dict[int, list[ImageRef]] = {}
        for ref, content in zip(refs, opened.content.tolist(), strict=True):
            self.groups.setdefault(content, []).append(ref)
        contents = np.array(list(self.groups), dtype=np.int64)  # each is the position of its first file
        self.pairs = contents[similar_pairs(opened.thumbnails[contents])].tolist()

    def images(self, content: int, number: int) -> list[int]:
        """Return the images of a split with these bytes."""
        return [ref.index for ref in self.groups[content] if ref.split == number]

    def within(self, number: int) -> list[Finding]:
        """Find copies in one split, each with the first image."""
        split, names = self.splits[number], self.splits[number].images.names
        exact, near = {}, {}
        for content in self.groups:
            first, *others = self.images(content, number) or [-1]
            exact |= {index: first for index in others if names[index] != names[first]}
        for pair in self.pairs:
            both = [self.images(content, number)[:1] for content in pair]
            if all(both):
                first, second = sorted(chain(*both))
                near.setdefault(second, first)
        return [_copies("image_twice", split, exact), _copies("image_nearly_twice", split, near)]

    def between(self, one: int, other: int) -> Iterator[Match]:
        """Yield the images of the second split that are in the first too."""
        exact = (("leak_exact", content, content) for content in self.groups)
        near = (("leak_near", *order) for pair in self.pairs for order in (pair, pair[::-1]))
        for kind, here, there in chain(exact, near):
            twins = self.images(here, one)
            for index in self.images(there, other) if twins else ():
                yield kind, index, twins[0]


def _matches(kind: str, first: Keys, second: Keys) -> Iterator[Match]:
    """Yield the images of the second split whose key the first split has, each with the first image of that key."""
    first_of = {key: index for index, key in reversed(first.items())}
    return ((kind, index, first_of[key]) for index, key in second.items() if key in first_of)


def _copies(kind: str, split: Split, first_of: dict[int, int]) -> Finding:
    """Return a finding about the copies in one split, given the first image of each copy."""
    label = split.images.label
    pairs = [f"{label(index)} = {label(first)}" for index, first in sorted(first_of.items())]
    return Finding(kind, split.name, len(pairs), len(split.images.ids), "images", pairs)


def _leaks(first: Split, second: Split, found: dict[int, tuple[str, int]]) -> Iterator[Finding]:
    """Yield findings about images of the second split that the first has too, each with its evidence and its twin."""
    by_kind: dict[str, list[str]] = {}
    for index, (kind, twin) in sorted(found.items()):
        name, other = second.images.label(index), first.images.label(twin)
        by_kind.setdefault(kind, []).append(name if name == other else f"{name} = {other}")
    where, total = f"{second.name} in {first.name}", len(second.images.ids)
    weight = WEIGHTS.get((first.name, second.name), OTHER_WEIGHT)
    for kind, pairs in by_kind.items():
        yield Finding(kind, where, len(pairs), total, "images", pairs, weight=weight)


def _keys(splits: Sequence[Split], seen: set[ImageRef], key: Callable[[Split, int], object]) -> list[Keys]:
    """Return the keys of the images of each split that were not opened."""
    return [
        {
            index: found
            for index in range(len(split.images.ids))
            if (number, index) not in seen and (found := key(split, index)) is not None
        }
        for number, split in enumerate(splits)
    ]


def _name_and_size(split: Split, index: int) -> tuple[object, ...] | None:
    name = split.images.names[index]
    sizes = [None if np.isnan(side) else side for side in split.images.sizes[index]]
    return None if name is None else (plain_name(name), *sizes)


def _counter_pattern(names: Iterable[str]) -> str | None:
    """Return the pattern of names that only count, such as ``img_0`` of img_0001.jpg, ...; None for other names.

    Two splits that both count from 0 or 1 share names by coincidence. Numbers with gaps, or from a higher start, are
    part of a larger whole.
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


def _source_keys(split: Split) -> Keys:
    """Return the names before Roboflow's suffix."""
    names = {index: plain_name(name) for index, name in enumerate(split.images.names) if name}
    stripped = {index: ROBOFLOW.sub("", name) for index, name in names.items() if ROBOFLOW.search(name)}
    return {} if _counter_pattern(stripped.values()) else dict(stripped)


def _box_keys(split: Split, number: int, seen: set[ImageRef], classes: dict[str, int]) -> Keys:
    """Return a key of size, classes and boxes for each image with several boxes; ``classes`` numbers the names."""
    boxes = split.boxes
    rows = np.flatnonzero(split.trained)
    if not len(rows):
        return {}
    label = np.array([classes[name] for name in split.categories.names])[boxes.category[rows]]
    rounded = (boxes.xywh[rows] * 10).round().astype(np.int64)
    _, first = np.unique(fingerprints(boxes.image[rows], label, *rounded.T), return_index=True)
    without_image = fingerprints(label[first], *rounded[first].T)
    image = boxes.image[rows][first]
    total = np.zeros(len(split.images.ids), np.uint64)
    np.add.at(total, image, without_image)
    counts = np.bincount(image, minlength=len(total))
    sizes = np.nan_to_num(split.images.sizes, nan=-1).astype(np.int64)
    keys = fingerprints(total.view(np.int64), counts, *sizes.T).tolist()
    several = np.flatnonzero(counts >= FEWEST_BOXES).tolist()
    return {index: keys[index] for index in several if (number, index) not in seen}
