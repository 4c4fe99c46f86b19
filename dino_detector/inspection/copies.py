"""The same picture twice: within a split, where it weighs double, and in two splits, where it spoils the numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dino_detector.inspection.findings import Finding
from dino_detector.inspection.fingerprints import fingerprints
from dino_detector.inspection.layouts import plain_name
from dino_detector.inspection.lookalikes import similar_pairs
from dino_detector.inspection.pictures import Opened
from dino_detector.inspection.split import Split

FEWEST_BOXES = 2
"""boxes of an image from which equal ones are no chance"""
PLAIN_NAME = re.compile(r"(img|image|frame|pic|picture|photo|dsc|dscn|p)?[ _-]?\d{1,8}", re.IGNORECASE)
"""names that cameras and scripts give to any picture"""
ROBOFLOW = re.compile(r"\.rf\.[0-9a-f]{8,}\.\w+$", re.IGNORECASE)
"""what Roboflow appends to the name of the picture that a version was made from"""

Place = tuple[int, int]
"""position of a split, and of an image in it"""


def check_copies(splits: Sequence[Split], opened: Opened | None) -> list[Finding]:
    """Duplicates within each split, and leakage of each split into those before it.

    Each image is told once, by the strongest evidence: equal bytes, equal looks, a common source, address, or boxes,
    and names last. What can be seen in the pictures needs ``opened``.
    """
    exact, near = ([], []) if opened is None else _seen(opened)
    findings = []
    for number, split in enumerate(splits):
        findings += _within(split, number, exact, near, guess=opened is None)
        for earlier in range(number):
            findings += _between(splits, earlier, number, exact, near, opened)
    return findings


def _seen(opened: Opened) -> tuple[list[tuple[Place, Place]], list[tuple[Place, Place]]]:
    """Pairs of pictures of equal bytes, and of those that only look the same; the earlier place first."""
    places = list(zip(opened.split.tolist(), opened.index.tolist(), strict=True))
    order = np.argsort(opened.content, kind="stable")
    content = opened.content[order]
    firsts = order[np.searchsorted(content, content)]
    exact = [(places[one], places[other]) for one, other in zip(firsts.tolist(), order.tolist(), strict=True)]
    near = [
        (places[one], places[other])
        for one, other in similar_pairs(opened.thumbnails).tolist()
        if opened.content[one] != opened.content[other]
    ]
    return _across([pair for pair in exact if pair[0] != pair[1]]), near


def _across(pairs: list[tuple[Place, Place]]) -> list[tuple[Place, Place]]:
    """The pairs, and those of a later split with each earlier one, where copies are in more than two."""
    groups: dict[Place, list[Place]] = {}
    for first, other in pairs:
        groups.setdefault(first, [first]).append(other)
    found = []
    for members in groups.values():
        heads = {place[0]: place for place in reversed(members)}
        for place in members:
            found += [(head, place) for number, head in heads.items() if number <= place[0] and head != place]
    return found


def _within(
    split: Split, number: int, exact: list[tuple[Place, Place]], near: list[tuple[Place, Place]], *, guess: bool
) -> list[Finding]:
    total = len(split.images.ids)
    findings = []
    told: set[int] = set()
    for kind, pairs in (("image_twice", exact), ("image_nearly_twice", near)):
        copies = {other: one for (a, one), (b, other) in pairs if a == b == number and other not in told}
        told |= copies.keys()
        findings.append(_finding(kind, split.name, split, split, copies, total))
    if guess:
        alike: dict[tuple, int] = {}
        copies = {row: alike[key] for row, key in _box_keys(split).items() if alike.setdefault(key, row) != row}
        findings.append(_finding("image_boxes_twice", split.name, split, split, copies, total))
    return findings


def _between(
    splits: Sequence[Split],
    earlier: int,
    number: int,
    exact: list[tuple[Place, Place]],
    near: list[tuple[Place, Place]],
    opened: Opened | None,
) -> list[Finding]:
    first, other = splits[earlier], splits[number]
    where = f"{other.name} in {first.name}"
    ways: list[tuple[str, dict[int, int]]] = [
        (kind, {row: one for (a, one), (b, row) in pairs if (a, b) == (earlier, number)})
        for kind, pairs in (("leak_exact", exact), ("leak_near", near))
    ]
    ways.append(("leak_source", _same(_sources(first), _sources(other))))
    ways.append(("leak_url", _same(_addresses(first), _addresses(other))))
    if opened is None:
        names = _same(_name_keys(first), _name_keys(other))
        plain = {row for row in names if PLAIN_NAME.fullmatch(_stem(other, row))}
        ways.append(("leak_name", {row: one for row, one in names.items() if row not in plain}))
        ways.append(("leak_boxes", _same(_box_keys(first), _box_keys(other))))
        ways.append(("leak_plain_name", {row: one for row, one in names.items() if row in plain}))
    findings, told = [], set()
    for kind, copies in ways:
        copies = {row: one for row, one in copies.items() if row not in told}
        told |= copies.keys()
        findings.append(_finding(kind, where, first, other, copies, len(other.images.ids)))
    return findings


def _finding(kind: str, where: str, first: Split, other: Split, copies: dict[int, int], total: int) -> Finding:
    ids = [f"{other.images.label(row)} = {first.images.label(one)}" for row, one in sorted(copies.items())]
    return Finding(kind, where, len(ids), total, "images", ids)


def _same(first: dict[int, object], other: dict[int, object]) -> dict[int, int]:
    """Images of the second by row, and the first image of the other split that has the same key."""
    known = {key: row for row, key in reversed(first.items())}
    return {row: known[key] for row, key in other.items() if key in known}


def _sources(split: Split) -> dict[int, object]:
    return {
        row: ROBOFLOW.sub("", plain_name(name))
        for row, name in enumerate(split.images.names)
        if name and ROBOFLOW.search(name)
    }


def _addresses(split: Split) -> dict[int, object]:
    return {row: address for row, address in enumerate(split.images.addresses) if address}


def _name_keys(split: Split) -> dict[int, object]:
    """Name without folders, and size, where both are known."""
    sizes = split.images.sizes.tolist()
    return {
        row: (plain_name(name), *sizes[row])
        for row, name in enumerate(split.images.names)
        if name and not np.isnan(sizes[row]).any()
    }


def _stem(split: Split, row: int) -> str:
    return plain_name(split.images.names[row]).rsplit(".", 1)[0]


def _box_keys(split: Split) -> dict[int, tuple]:
    """Size, and fingerprint of all boxes with their classes in any order, of images that have some."""
    rows = np.flatnonzero(split.trained)
    image = split.boxes.image[rows]
    corners = np.round(split.boxes.xywh[rows] * 100).astype(np.int64)
    marks = fingerprints(*corners.T, split.boxes.category[rows])
    sums = np.zeros(len(split.images.ids), np.uint64)
    np.add.at(sums, image, marks)
    counts = np.bincount(image, minlength=len(sums))
    sizes = split.images.sizes.tolist()
    return {
        row: (*sizes[row], int(sums[row]), int(counts[row])) for row in np.flatnonzero(counts >= FEWEST_BOXES).tolist()
    }
