"""Checks the classes: their box counts, their names, and whether the splits agree about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding

FEW_BOXES = 10
IMBALANCE = 20
"""largest accepted ratio between the box counts of the largest class and of another class"""


class ClassRow(NamedTuple):
    """A class over all splits.

    Attributes:
        name: name of the class.
        boxes: number of boxes in each split.
        images: number of images with such a box in all splits.
        side: median side in patches, NaN if there is no box.
    """

    name: str
    boxes: tuple[int, ...]
    images: int
    side: float


def class_rows(splits: Sequence[Split], sides: Sequence[np.ndarray]) -> list[ClassRow]:
    """Return every class by name, the largest first; ``sides`` ``[M]`` are the box sides of each split in patches."""
    names = list(dict.fromkeys(chain.from_iterable(split.categories.names for split in splits)))
    if not names:
        return []
    number = {name: position for position, name in enumerate(names)}
    labels, boxes, images = [], [], np.zeros(len(names), np.int64)
    for split in splits:
        of_category = np.array([number[name] for name in split.categories.names], dtype=np.int64)
        label, num_images = of_category[split.boxes.category[split.trained]], max(1, len(split.images.ids))
        labels.append(label)
        boxes.append(np.bincount(label, minlength=len(names)))
        images_with_label = np.unique(label * num_images + split.boxes.image[split.trained])
        images += np.bincount(images_with_label // num_images, minlength=len(names))
    label = np.concatenate(labels)
    order = np.argsort(label, kind="stable")
    lengths = np.concatenate([lengths[split.trained] for split, lengths in zip(splits, sides, strict=True)])[order]
    parts = np.split(lengths, np.searchsorted(label[order], np.arange(1, len(names))))
    medians = [float(np.median(part)) if len(part) else float("nan") for part in parts]
    columns = zip(names, map(tuple, np.transpose(boxes).tolist()), images.tolist(), medians, strict=True)
    return sorted(map(ClassRow._make, columns), key=lambda row: -sum(row.boxes))


def check_classes(splits: Sequence[Split], rows: Sequence[ClassRow]) -> list[Finding]:
    """Find bad names, dummies, unused and rare classes, and classes that differ between splits."""
    if not any(split.labelled for split in splits):
        return []
    boxes = {row.name: row.boxes for row in rows}
    counts = [{name: boxes[name][row] for name in split.categories.names} for row, split in enumerate(splits)]
    (first, ours), *others = (pair for pair in zip(splits, counts, strict=True) if pair[0].labelled)
    labelled = [first, *(split for split, _ in others)]
    dummies = {name for split in labelled for name in _dummies(split) if not any(boxes[name])}
    findings = [finding for split in labelled for finding in _check_names(split, dummies)]
    findings += _check_counts(first, ours, dummies)
    for other, theirs in others:
        if first.categories.listed and other.categories.listed:
            findings += _check_agreement(first, other)
            if first.name == "train":
                findings += _check_presence(ours, theirs, other.name)
    return findings


def _find(split: str, total: int, note: str = "", **names: list[str]) -> Iterator[Finding]:
    """Yield findings about classes; ``names`` are the affected classes by kind."""
    return (Finding(kind, split, len(found), total, "classes", found, note) for kind, found in names.items())


def _dummies(split: Split) -> list[str]:
    """Return the classes that are a supercategory and have none, as in Roboflow's exports."""
    pairs = list(zip(split.categories.names, split.categories.parents, strict=True))
    heads = [name for name, parent in pairs if parent in (None, "none", name)]
    parents = {parent for name, parent in pairs if parent not in (None, "none", name)}
    return [name for name in heads if name in parents]


def _check_names(split: Split, dummies: set[str]) -> Iterator[Finding]:
    """Find names that appear twice, look alike, or belong to dummy classes."""
    names = Counter(split.categories.names)
    alike: dict[str, list[str]] = {}
    for name in names:
        if name not in dummies:
            alike.setdefault(_same_class_key(name), []).append(repr(name))
    return _find(
        split.name,
        names.total(),
        class_name_twice=[name for name, count in names.items() if count > 1],
        class_names_alike=[" = ".join(group) for group in alike.values() if len(group) > 1],
        class_dummy=[name for name in names if name in dummies],
    )


def _same_class_key(name: str) -> str:
    """Return a key that ignores case, spaces, hyphens and underscores between letters, and a plural s."""
    key = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", name.strip()).casefold()
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def _check_counts(split: Split, counts: dict[str, int], dummies: set[str]) -> Iterator[Finding]:
    """Find classes of the training split without boxes, with few, and with far fewer than the largest."""
    largest = max(counts, key=counts.__getitem__, default=None)
    if largest is None or not counts[largest]:
        return
    fewest_first = sorted(counts.items(), key=lambda item: item[1])
    shown = {name: f"{name} ({count:,})" for name, count in fewest_first}
    unused = [name for name, count in fewest_first if not count and name not in dummies]
    rare = [shown[name] for name, count in fewest_first if 0 < count < FEW_BOXES]
    behind = [shown[name] for name, count in fewest_first if count >= FEW_BOXES and count * IMBALANCE < counts[largest]]
    yield from _find(split.name, len(counts), class_unused=unused, class_rare=rare)
    note = f"{largest} has {counts[largest]:,} boxes"
    yield from _find(split.name, len(counts), note, class_imbalance=behind)


def _check_agreement(first: Split, other: Split) -> Iterator[Finding]:
    """Find classes that only one file lists, or that have different ids; training compares train with val alone.

    A class without a box in the other file is left out there, so only the classes of its boxes must agree.
    Formats that name classes and do not number them have no ids to compare.
    """
    one, two = (dict(zip(split.categories.names, split.categories.ids, strict=True)) for split in (first, other))
    used = {other.categories.names[row] for row in np.unique(other.boxes.category).tolist() if row >= 0}
    numbered = first.boxes.places is None and other.boxes.places is None
    both = [name for name in one if name in used and one[name] != two[name]] if numbered else []
    moved = [f"{name} ({one[name]} and {two[name]})" for name in both]
    found = _find(
        f"{first.name} and {other.name}",
        len(one.keys() | two.keys()),
        classes_differ=[name for name in two if name not in one and name in used],
        classes_absent=[name for name in one if name not in two],
        class_ids_differ=moved,
    )
    effect = None if (first.name, other.name) == ("train", "val") else ""
    return (replace(finding, training=effect) for finding in found)


def _check_presence(trained: dict[str, int], evaluated: dict[str, int], split: str) -> Iterator[Finding]:
    """Find classes with boxes in only one of two splits, if both have boxes."""
    ours, theirs = ({name: count for name, count in counts.items() if count} for counts in (trained, evaluated))
    if ours and theirs:
        absent = [name for name in ours if name not in theirs]
        untrained = [name for name in theirs if name not in ours]
        total = len(trained.keys() | evaluated.keys())
        yield from _find(split, total, class_not_evaluated=absent, class_not_trained=untrained)
