"""Finds the same picture twice: within a split, and in two splits, where it makes metrics untrustworthy."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data.layouts import plain_name
from dino_detector.data.pictures.look_alikes import ROBOFLOW, similar_pairs
from dino_detector.data_check.boxes import fingerprints
from dino_detector.data_check.pictures import Picture

FEWEST_BOXES = 2
"""number of boxes of an image from which equal boxes are no coincidence"""
DENSE = 0.9
"""least share of used numbers in a sequence that counts from 0 or 1"""
WEIGHTS = {("train", "val"): 1.0, ("train", "test"): 0.9}
OTHER_WEIGHT = 0.6
"""`Finding.weight` of leakage, by the first and the second split"""

Keys = dict[int, object]
"""a key for each image of a split that has one, equal for images that may be the same picture"""
Match = tuple[int, int]
"""an image, and the same picture in the same or another split"""


def check_duplicates(splits: Sequence[Split], pictures: Sequence[dict[int, Picture]]) -> list[Finding]:
    """Find images that appear twice within a split, or in two splits.

    Each image counts once, by the strongest evidence: bytes, looks, source, address, name, boxes. Opened pictures are
    judged by their pixels, not by their names or boxes.

    Args:
        splits: the splits.
        pictures: the opened pictures of each split, by the position of their image.
    """
    contents = _content_keys(pictures)
    similar = _similar_contents(contents, pictures)
    both = [*zip(splits, pictures, strict=True)]
    classes = {name: number for number, name in enumerate(chain(*(split.categories.names for split in splits)))}
    boxes = [_unopened(_box_keys(split, classes), opened) for split, opened in both]
    names = [_unopened(_names_and_sizes(split), opened) for split, opened in both]
    addresses = [_unopened(split.images.addresses, opened) for split, opened in both]
    sources = [_source_keys(split) for split in splits]
    counters = [_counter_pattern(key[0] for key in of_split.values()) for of_split in names]
    findings = []
    for number, split in enumerate(splits):
        file_names, own = split.images.names, contents[number]
        exact = [(copy, first) for copy, first in _matches(own, own) if file_names[copy] != file_names[first]]
        firsts = {index: content for content, index in _first_of(own).items()}
        near, same_boxes = _look_alikes(firsts, firsts, similar), _matches(boxes[number], boxes[number])
        kinds = {"image_twice": exact, "image_nearly_twice": near, "image_boxes_twice": same_boxes}
        findings += [_copies(kind, split, matches) for kind, matches in kinds.items()]
    for one, other in combinations(range(len(splits)), 2):
        evidence = [("leak_source", sources), ("leak_url", addresses), ("leak_name", names), ("leak_boxes", boxes)]
        if counters[one] is not None and counters[one] == counters[other]:  # equal names are a coincidence
            evidence[2:] = [("leak_boxes", boxes), ("leak_plain_name", names)]
        found = {"leak_exact": _matches(contents[one], contents[other])}
        found["leak_near"] = _look_alikes(contents[one], contents[other], similar)
        found |= {kind: _matches(keys[one], keys[other]) for kind, keys in evidence}
        findings += _leaks(splits[one], splits[other], found)
    return findings


def _first_of(keys: Keys) -> dict[object, int]:
    """Return the first image with each key."""
    return {key: index for index, key in reversed(keys.items())}


def _matches(first: Keys, second: Keys) -> Iterator[Match]:
    """Yield the images of the second split whose key the first split has, each with the first image of that key."""
    first_of = _first_of(first)
    return ((index, first_of[key]) for index, key in second.items() if key in first_of)


def _look_alikes(first: Keys, second: Keys, similar: dict[object, list[object]]) -> Iterator[Match]:
    """Yield the images of the second split whose look-alikes the first split has, by the keys of their contents."""
    first_of = _first_of(first)
    for index, content in second.items():
        yield from ((index, first_of[other]) for other in similar.get(content, ()) if other in first_of)


def _copies(kind: str, split: Split, matches: Iterable[Match]) -> Finding:
    """Return a finding about the images of a split that match an earlier image, each with its first match."""
    first_of: dict[int, int] = {}
    for index, twin in matches:
        if twin < index:
            first_of.setdefault(index, twin)
    label = split.images.label
    pairs = [f"{label(index)} = {label(first)}" for index, first in sorted(first_of.items())]
    return Finding(kind, split.name, len(pairs), len(split.images.ids), "images", pairs)


def _leaks(first: Split, second: Split, found: dict[str, Iterator[Match]]) -> Iterator[Finding]:
    """Yield findings about images of the second split that the first has too; ``found`` has the best evidence first."""
    strongest: dict[int, tuple[str, int]] = {}
    for kind, matches in found.items():
        for index, twin in matches:
            strongest.setdefault(index, (kind, twin))
    by_kind: dict[str, list[str]] = defaultdict(list)
    for index, (kind, twin) in sorted(strongest.items()):
        name, other = second.images.label(index), first.images.label(twin)
        by_kind[kind].append(name if name == other else f"{name} = {other}")
    where, total = f"{second.name} in {first.name}", len(second.images.ids)
    weight = WEIGHTS.get((first.name, second.name), OTHER_WEIGHT)
    for kind, pairs in by_kind.items():
        yield Finding(kind, where, len(pairs), total, "images", pairs, weight=weight)


def _content_keys(pictures: Sequence[dict[int, Picture]]) -> list[Keys]:
    """Return keys that are equal for files of equal bytes; only files of equal length are read."""
    lengths = [{index: picture.path.stat().st_size for index, picture in opened.items()} for opened in pictures]
    counts = Counter(chain.from_iterable(of_split.values() for of_split in lengths))

    def key(path: Path, length: int) -> object:
        return hashlib.blake2b(path.read_bytes()).digest() if counts[length] > 1 else length

    return [
        {index: key(opened[index].path, length) for index, length in of_split.items()}
        for opened, of_split in zip(pictures, lengths, strict=True)
    ]


def _similar_contents(contents: Sequence[Keys], pictures: Sequence[dict[int, Picture]]) -> dict[object, list[object]]:
    """Return, for each key of file contents, the keys of its look-alikes."""
    thumbnails: dict[object, np.ndarray] = {}
    for keys, opened in zip(contents, pictures, strict=True):
        for index, content in keys.items():
            thumbnails.setdefault(content, opened[index].thumbnail)
    similar: dict[object, list[object]] = defaultdict(list)
    numbered = [*thumbnails]
    for one, other in similar_pairs([*thumbnails.values()]).tolist():
        similar[numbered[one]].append(numbered[other])
        similar[numbered[other]].append(numbered[one])
    return similar


def _unopened(keys: Sequence[object], opened: dict[int, Picture]) -> Keys:
    """Return the keys of the images that have one and were not opened."""
    return {index: key for index, key in enumerate(keys) if key is not None and index not in opened}


def _names_and_sizes(split: Split) -> list[tuple[object, ...] | None]:
    named = zip(split.images.names, np.nan_to_num(split.images.sizes, nan=-1).tolist(), strict=True)
    return [None if name is None else (plain_name(name), *size) for name, size in named]


def _counter_pattern(names: Iterable[str]) -> str | None:
    """Return the pattern of names that are only a counter, ``img_0`` of img_0001.jpg, ...; None for other names.

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


def _box_keys(split: Split, classes: dict[str, int]) -> list[int | None]:
    """Return a key of size, classes and boxes for each image with several boxes; ``classes`` numbers the names."""
    boxes, rows = split.boxes, np.flatnonzero(split.trained)
    label = np.array([classes[name] for name in split.categories.names], np.int64)[boxes.category[rows]]
    rounded = (boxes.xywh[rows] * 10).round().astype(np.int64)
    _, first = np.unique(fingerprints(boxes.image[rows], label, *rounded.T), return_index=True)
    image = boxes.image[rows][first]
    total = np.zeros(len(split.images.ids), np.uint64)
    np.add.at(total, image, fingerprints(label[first], *rounded[first].T))
    counts = np.bincount(image, minlength=len(total))
    sizes = np.nan_to_num(split.images.sizes, nan=-1).astype(np.int64)
    keys = fingerprints(total.view(np.int64), counts, *sizes.T)
    return np.where(counts >= FEWEST_BOXES, keys, None).tolist()
