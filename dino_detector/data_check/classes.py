"""Checks the classes: their box counts, their names, and whether the splits agree about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
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
    names = list(dict.fromkeys(name for split in splits for name in split.categories.names))
    number = {name: position for position, name in enumerate(names)}
    boxes = np.zeros((len(splits), len(names)), np.int64)
    images = np.zeros(len(names), np.int64)
    labels, lengths = [np.zeros(0, np.int64)], [np.zeros(0)]
    for row, (split, lengths_of_split) in enumerate(zip(splits, sides, strict=True)):
        of_category = np.array([number[name] for name in split.categories.names], dtype=np.int64)
        label = of_category[split.boxes.category[split.trained]]
        image = split.boxes.image[split.trained]
        boxes[row] = np.bincount(label, minlength=len(names))
        together = np.unique(label * max(1, len(split.images.ids)) + image)
        images += np.bincount(together // max(1, len(split.images.ids)), minlength=len(names))
        labels.append(label)
        lengths.append(lengths_of_split[split.trained])
    medians = _medians(np.concatenate(labels), np.concatenate(lengths), len(names))
    rows = [
        ClassRow(name, tuple(boxes[:, position].tolist()), int(images[position]), medians[position])
        for position, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: -sum(row.boxes))


def check_classes(splits: Sequence[Split]) -> list[Finding]:
    """Find bad names, dummies, unused and rare classes, and classes that differ between splits."""
    findings: list[Finding] = []
    labelled = [split for split in splits if split.labelled]
    counts = {split.name: _box_counts(split) for split in labelled}
    used = {name for numbers in counts.values() for name, count in numbers.items() if count}
    dummies = {name for split in labelled for name in dummy_classes(split) if name not in used}
    for split in labelled:
        findings += _check_names(split, dummies)
    if labelled:
        findings += _check_counts(labelled[0], counts[labelled[0].name], dummies)
    for other in labelled[1:]:
        if not (labelled[0].categories.listed and other.categories.listed):
            continue
        findings += _check_agreement(labelled[0], other, dummies)
        if labelled[0].name == "train":
            findings += _check_presence(counts["train"], counts[other.name], other.name)
    return findings


def same_class_key(name: str) -> str:
    """Return a key that ignores case, spaces, hyphens and underscores between letters, and a plural s."""
    key = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", name.strip()).casefold()
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def dummy_classes(split: Split) -> list[str]:
    """Return the classes that are a supercategory and have none, as in Roboflow's exports."""
    pairs = list(zip(split.categories.names, split.categories.parents, strict=True))
    heads = [name for name, parent in pairs if parent in (None, "none", name)]
    parents = {parent for name, parent in pairs if parent not in (None, "none", name)}
    return [name for name in heads if name in parents]


def _box_counts(split: Split) -> dict[str, int]:
    """Return the number of boxes of each class by name."""
    counts = np.bincount(split.boxes.category[split.trained], minlength=len(split.categories.names)).tolist()
    total: Counter[str] = Counter()
    for name, count in zip(split.categories.names, counts, strict=True):
        total[name] += count
    return total


def _check_names(split: Split, dummies: set[str]) -> list[Finding]:
    """Find names that appear twice, look alike, or belong to dummy classes."""
    names = split.categories.names
    twice = [name for name, count in Counter(names).items() if count > 1]
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if name not in dummies:
            alike.setdefault(same_class_key(name), []).append(name)
    groups = [" = ".join(repr(name) for name in group) for group in alike.values() if len(group) > 1]
    heads = [name for name in dict.fromkeys(names) if name in dummies]
    kinds = {"class_name_twice": twice, "class_names_alike": groups, "class_dummy": heads}
    return _findings(kinds, split.name, len(names))


def _check_counts(split: Split, counts: dict[str, int], dummies: set[str]) -> list[Finding]:
    """Find classes of the training split without boxes, with few, and with far fewer than the largest."""
    if not any(counts.values()):
        return []
    most = max(counts.values())
    fewest_first = sorted(counts, key=lambda name: counts[name])
    unused = [name for name in fewest_first if counts[name] == 0 and name not in dummies]
    rare = [name for name in fewest_first if 0 < counts[name] < FEW_BOXES]
    behind = [name for name in fewest_first if counts[name] and counts[name] * IMBALANCE < most and name not in rare]
    largest = max(counts, key=lambda name: counts[name])
    rare, behind = ([f"{name} ({counts[name]:,})" for name in names] for names in (rare, behind))
    return [
        *_findings({"class_unused": unused, "class_rare": rare}, split.name, len(counts)),
        *_findings({"class_imbalance": behind}, split.name, len(counts), f"{largest} has {most:,} boxes"),
    ]


def _check_agreement(first: Split, other: Split, dummies: set[str]) -> list[Finding]:
    """Find classes that only one file lists, or that have different ids."""
    ids = [dict(zip(split.categories.names, split.categories.ids, strict=True)) for split in (first, other)]
    total = len(ids[0].keys() | ids[1].keys())
    apart = [f"{name} (only in {first.name})" for name in ids[0] if name not in ids[1]]
    apart += [f"{name} (only in {other.name})" for name in ids[1] if name not in ids[0]]
    moved = [
        f"{name} ({ids[0][name]} and {ids[1][name]})"
        for name in ids[0]
        if ids[1].get(name, ids[0][name]) != ids[0][name]
    ]
    return _findings({"classes_differ": apart, "class_ids_differ": moved}, f"{first.name} and {other.name}", total)


def _check_presence(trained: dict[str, int], evaluated: dict[str, int], split: str) -> list[Finding]:
    """Find classes with boxes in only one of two splits."""
    if not any(evaluated.values()) or not any(trained.values()):
        return []
    absent = [name for name, count in trained.items() if count and not evaluated.get(name)]
    untrained = [name for name, count in evaluated.items() if count and not trained.get(name)]
    total = len(trained.keys() | evaluated.keys())
    return _findings({"class_not_evaluated": absent, "class_not_trained": untrained}, split, total)


def _findings(names: dict[str, list[str]], split: str, total: int, note: str = "") -> list[Finding]:
    """Return findings about classes; ``names`` are the affected classes by kind."""
    return [Finding(kind, split, len(found), total, "classes", found, note) for kind, found in names.items()]


def _medians(labels: np.ndarray, values: np.ndarray, number: int) -> list[float]:
    """Return the median of the values of each label 0..number-1, NaN if it has none."""
    order = np.argsort(labels, kind="stable")
    parts = np.split(values[order], np.searchsorted(labels[order], np.arange(1, number)))
    return [float(np.median(part)) if len(part) else float("nan") for part in parts] if number else []
