"""Reads an annotation file to its end, with every mistake of form on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from dino_detector.data.known_sets import COCO_2017
from dino_detector.inspection.findings import Finding
from dino_detector.inspection.parsing import AnnotationEntry, CategoryEntry, ImageEntry, parse
from dino_detector.inspection.split import BoxColumns, CategoryColumns, Id, ImageColumns, Split

LIMIT = 1e12
"""what is larger is no number of pixels"""
LARGEST_SIDE = 10**7
"""pixels of a side that an image can have"""
FEWEST_SHIFTED = 3
"""ids that are off by one together by no chance, though some classes have no box"""


class Reading(NamedTuple):
    """A file and what is wrong with its form."""

    split: Split
    findings: list[Finding]


def read_split(path: Path, name: str) -> Reading:
    """Read an annotation file; everything that can be read is kept, and everything else is counted.

    Raises:
        InputError: it can't be read, is not JSON, or has no list of images.
    """
    content = parse(path)
    reader = _Reader(name)
    missing = [key for key in ("annotations", "categories") if getattr(content, key) is None]
    listed_only = content.annotations is None and content.categories is not None
    if missing and not listed_only:
        reader.find("list_missing", len(missing), 3, "lists", [f'"{key}"' for key in missing])
    total = len(content.images) + len(content.annotations or []) + len(content.categories or []) + content.no_objects
    reader.find("entry_no_object", content.no_objects, total, "entries", ())
    if not content.images:
        reader.find("no_images", 1, 1, "files", [path.name])
    images = reader.images(content.images)
    annotations = content.annotations or []
    categories = reader.categories(content.categories, annotations)
    boxes = reader.boxes(annotations, images, categories)
    split = Split(
        name,
        path,
        images,
        boxes,
        categories,
        labelled=not listed_only,
        is_coco=content.description == COCO_2017,
    )
    return Reading(split, reader.findings)


class _Reader:
    """Makes columns of entries, and collects findings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []

    def find(self, kind: str, count: int, total: int, unit: str, ids: Sequence[Any], note: str = "") -> None:
        if count:
            self.findings.append(Finding(kind, self.name, count, total, unit, ids, note))

    def images(self, entries: list[ImageEntry]) -> ImageColumns:
        total = len(entries)
        ids, bad = whole_numbers([entry.id for entry in entries])
        self.find("image_id", len(bad), total, "images", [_shown(entries[row].id) for row in bad])
        repeated = _repeated(ids)
        self.find("image_id_twice", len(repeated), total, "images", [ids[row] for row in repeated])
        names = [entry.file_name if isinstance(entry.file_name, str) and entry.file_name else None for entry in entries]
        nameless = [row for row, name in enumerate(names) if name is None]
        self.find("file_name_missing", len(nameless), total, "images", [_id(ids, row) for row in nameless])
        again = [row for row in _repeated(names) if row not in set(repeated)]
        self.find("file_name_twice", len(again), total, "images", [names[row] for row in again])
        strange = [row for row, name in enumerate(names) if name and _is_tied_to_a_machine(name)]
        self.find("file_name_path", len(strange), total, "images", [names[row] for row in strange])
        widths, bad_widths = _sizes([entry.width for entry in entries])
        heights, bad_heights = _sizes([entry.height for entry in entries])
        sizeless = np.flatnonzero(bad_widths | bad_heights).tolist()
        self.find("image_size", len(sizeless), total, "images", [names[row] or _id(ids, row) for row in sizeless])
        addresses = [_text(entry.coco_url) or _text(entry.flickr_url) for entry in entries]
        return ImageColumns(ids, names, np.stack([widths, heights], axis=1), addresses)

    def categories(self, entries: list[CategoryEntry] | None, annotations: list[AnnotationEntry]) -> CategoryColumns:
        """The classes; where the file lists none, those that annotations refer to."""
        if not entries:
            used, _ = whole_numbers([entry.category_id for entry in annotations])
            ids = sorted({one for one in used if one is not None}, key=lambda one: (isinstance(one, str), one))
            return CategoryColumns(ids, [f"category {one}" for one in ids], [None] * len(ids), listed=False)
        ids, bad = whole_numbers([entry.id for entry in entries])
        total = len(entries)
        self.find("category_id", len(bad), total, "classes", [_shown(entries[row].id) for row in bad])
        repeated = _repeated(ids)
        self.find("category_id_twice", len(repeated), total, "classes", [ids[row] for row in repeated])
        nameless = [row for row, entry in enumerate(entries) if not isinstance(entry.name, str) or not entry.name]
        self.find("class_no_name", len(nameless), total, "classes", [_id(ids, row) for row in nameless])
        names = [_text(entry.name) or f"category {_id(ids, row)}" for row, entry in enumerate(entries)]
        return CategoryColumns(ids, names, [_text(entry.supercategory) for entry in entries])

    def boxes(self, entries: list[AnnotationEntry], images: ImageColumns, categories: CategoryColumns) -> BoxColumns:
        total = len(entries)
        ids = self.annotation_ids(entries)
        labels = [row if one is None else one for row, one in enumerate(ids)]

        def find(kind: str, rows: Sequence[int], note: str = "") -> None:
            self.find(kind, len(rows), total, "annotations", [labels[row] for row in rows], note)

        image_ids, bad = whole_numbers([entry.image_id for entry in entries])
        find("image_reference", bad)
        category_ids, bad = whole_numbers([entry.category_id for entry in entries])
        find("category_reference", bad)
        image = _positions(image_ids, images.ids)
        lost = [row for row in np.flatnonzero(image < 0).tolist() if image_ids[row] is not None]
        find("image_unknown", lost, _first_ids("images", [image_ids[row] for row in lost]))
        category = _positions(category_ids, categories.ids)
        if shift := _shift(category_ids, categories.ids):
            given = [one for one in category_ids if one is not None]
            category = _positions([None if one is None else one + shift for one in category_ids], categories.ids)
            used = f"{min(given)} to {max(given)}"
            listed = f"{min(categories.ids)} to {max(categories.ids)}"
            find("category_off_by_one", range(total), f"annotations use {used}, categories are {listed}")
        else:
            lost = [row for row in np.flatnonzero(category < 0).tolist() if category_ids[row] is not None]
            find("category_unknown", lost, _first_ids("categories", [category_ids[row] for row in lost]))

        xywh, absent, malformed = _boxes([entry.bbox for entry in entries])
        find("box_missing", absent)
        find("box_no_numbers", malformed)
        crowd = self.crowd([entry.iscrowd for entry in entries], find)
        area = self.area([entry.area for entry in entries], find)
        return BoxColumns(ids, image, category, xywh, crowd, area)

    def annotation_ids(self, entries: list[AnnotationEntry]) -> list[Id]:
        total = len(entries)
        given = [entry.id for entry in entries]
        absent = given.count(UNSET)
        self.find("annotation_id_missing", absent, total, "annotations", [])
        ids, bad = whole_numbers(given)
        bad = [row for row in bad if given[row] is not UNSET]
        self.find("annotation_id", len(bad), total, "annotations", [_shown(given[row]) for row in bad])
        repeated = _repeated(ids)
        self.find("annotation_id_twice", len(repeated), total, "annotations", [ids[row] for row in repeated])
        return ids

    def crowd(self, values: list[Any], find: Any) -> np.ndarray:
        if _types(values) <= {int} and set(values) <= {0, 1}:
            return np.array(values, dtype=bool)
        absent = [row for row, value in enumerate(values) if value is UNSET]
        strange = [row for row, value in enumerate(values) if value is not UNSET and not _is_flag(value)]
        find("crowd_missing", absent)
        find("crowd_value", strange)
        return np.array([value in (1, "1", "true", "True") for value in values], dtype=bool)

    def area(self, values: list[Any], find: Any) -> np.ndarray:
        if _types(values) <= {int, float}:
            area = np.array(values, dtype=np.float64)
            find("area_value", np.flatnonzero(~(np.abs(area) < LIMIT)).tolist())
            return np.where(np.abs(area) < LIMIT, area, np.nan)
        absent = [row for row, value in enumerate(values) if value is UNSET or value is None]
        strange = [row for row, value in enumerate(values) if value is not UNSET and value is not None]
        find("area_missing", absent)
        find("area_value", [row for row in strange if not _is_finite(values[row])])
        return np.array([float(value) if _is_finite(value) else np.nan for value in values])


def whole_numbers(values: list[Any]) -> tuple[list[Id], list[int]]:
    """Ids, and the positions of those that are no whole numbers; ``"17"`` and ``17.0`` count as 17 all the same."""
    if _types(values) <= {int}:
        return values, []
    ids: list[Id] = []
    bad: list[int] = []
    for row, value in enumerate(values):
        if type(value) is int:
            ids.append(value)
            continue
        bad.append(row)
        if type(value) is float and value.is_integer():
            ids.append(int(value))
        elif isinstance(value, str):
            text = value.strip()
            ids.append(int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20 else value)
        else:
            ids.append(None)
    return ids, bad


def _types(values: list[Any]) -> set[type]:
    return set(map(type, values))


def _repeated(values: Sequence[Any]) -> list[int]:
    """Positions of the values that came before; None never did."""
    if len(set(values)) == len(values):
        return []
    seen: set[Any] = set()
    again = []
    for row, value in enumerate(values):
        if value is not None and value in seen:
            again.append(row)
        seen.add(value)
    return again


def _positions(wanted: list[Id], listed: list[Id]) -> np.ndarray:
    """``[N]`` int64 position in the list of each wanted id, the first of equal ones, or -1."""
    where = {one: row for row, one in reversed(list(enumerate(listed))) if one is not None}
    return np.fromiter((where.get(one, -1) for one in wanted), dtype=np.int64, count=len(wanted))


def _shift(used: list[Id], listed: list[Id]) -> int:
    """1 or -1 where all ids that annotations use are listed only after they are shifted by that, otherwise 0.

    A single unknown id fits by chance. So either it is counting from 0 or 1 that differs, or many ids agree.
    """
    ids, known = set(used) - {None}, set(listed) - {None}
    if ids <= known or not known or not all(isinstance(one, int) for one in ids | known):
        return 0
    counts_from = {1: 0 in ids and 0 not in known, -1: 0 in known and max(ids) > max(known)}
    for shift in (1, -1):
        shifted = {one + shift for one in ids}
        if shifted <= known and (counts_from[shift] or shifted == known or len(ids) >= FEWEST_SHIFTED):
            return shift
    return 0


def _boxes(values: list[Any]) -> tuple[np.ndarray, list[int], list[int]]:
    """``[M, 4]`` float64, and the positions of boxes that are absent and of those that are no four finite numbers."""
    if values and _types(values) == {list} and set(map(len, values)) == {4}:
        flat = list(chain.from_iterable(values))
        if _types(flat) <= {int, float}:
            boxes = np.array(flat, dtype=np.float64).reshape(-1, 4)
            infinite = ~(np.abs(boxes) < LIMIT).all(axis=1)  # NaN too
            boxes[infinite] = np.nan
            return boxes, [], np.flatnonzero(infinite).tolist()
    boxes = np.full((len(values), 4), np.nan)
    absent, malformed = [], []
    for row, value in enumerate(values):
        if value is UNSET or value is None or value == []:
            absent.append(row)
        elif isinstance(value, list) and len(value) == 4 and all(_is_finite(number) for number in value):
            boxes[row] = value
        else:
            malformed.append(row)
    return boxes, absent, malformed


def _sizes(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """``[I]`` float64 pixels, NaN where they can't be used, and ``[I]`` bool: not a whole number above 0."""
    if _types(values) <= {int}:
        sizes = np.array(values, dtype=np.float64)
        wrong = (sizes < 1) | (sizes > LARGEST_SIDE)
        return np.where(wrong, np.nan, sizes), wrong
    numbers, bad = whole_numbers(values)
    sizes = np.array(
        [one if isinstance(one, int) and 1 <= one <= LARGEST_SIDE else np.nan for one in numbers], dtype=np.float64
    )
    wrong = np.isnan(sizes)
    wrong[bad] = True
    return sizes, wrong


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LIMIT


def _is_flag(value: Any) -> bool:
    return type(value) in (int, bool) and value in (0, 1)


def _is_tied_to_a_machine(name: str) -> bool:
    """Absolute, with a drive or backslashes, or leading out of the folder."""
    return "\\" in name or name.startswith(("/", "~")) or name[1:2] == ":" or ".." in name.split("/")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _id(ids: list[Id], row: int) -> Id:
    return ids[row] if ids[row] is not None else f"entry {row}"


def _shown(value: Any) -> str:
    """A value as it would stand in the file."""
    return "missing" if value is UNSET else "null" if value is None else repr(value)


def _first_ids(what: str, ids: list[Id]) -> str:
    """Which ids annotations refer to in vain."""
    distinct = list(dict.fromkeys(ids))
    return f"{what} {', '.join(map(str, distinct[:5]))}{', ...' if len(distinct) > 5 else ''}" if distinct else ""
