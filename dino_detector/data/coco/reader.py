"""Reads a COCO file and reports all of its mistakes.

Training raises the first mistake that stops it, and ``dino-detector data`` lists them all. Both use this reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from dino_detector.data.coco.box_checks import check_boxes
from dino_detector.data.coco.box_format import in_coco_format
from dino_detector.data.coco.columns import BoxColumns, CategoryColumns, Id, ImageColumns, Split, entry_label
from dino_detector.data.coco.entries import Content, read_content
from dino_detector.data.coco.findings import Finding
from dino_detector.data.coco.image_files import ADDRESS, find_image_files
from dino_detector.data.coco.mask_boxes import box_of_mask
from dino_detector.data.coco.values import (
    LIMIT,
    boxes_of,
    column,
    is_finite,
    is_flag,
    positions_of,
    repeated_rows,
    shift_of,
    sizes_of,
    types,
    whole_numbers,
)
from dino_detector.data.pictures.files import picture_sizes
from dino_detector.plain_text import quoted

NOT_PLAIN = re.compile(r"\\|^[/~]|^.:|(?:^|/)\.\.(?:/|$)", re.MULTILINE)
"""a file name that is absolute, has a drive or backslashes, or leads out of its folder"""


class Reading(NamedTuple):
    """A file and its mistakes; boxes in other formats are converted."""

    split: Split
    findings: list[Finding]


FindFolder = Callable[[Sequence[str | None]], Path | None]
"""returns the folder of the images with these file names, None if it is unknown"""


def read_split(path: Path, name: str, *, find_folder: FindFolder) -> Reading:
    """Read an annotation file: keep every readable entry, and report every mistake as a finding.

    Args:
        path: the file.
        name: name of the split in the findings.
        find_folder: finds the folder of the images; sizes that the file lacks are read from the pictures there.

    Raises:
        InputError: the file can't be read, is not JSON, or has no list of images.
    """
    return read_entries(read_content(path), path, name, find_folder=find_folder)


def read_entries(content: Content, path: Path, name: str, *, find_folder: FindFolder) -> Reading:
    """Make a `Reading` of decoded entries; see `read_split` for the other arguments."""
    reader = _Reader(name)
    missing = [key for key in ("annotations", "categories") if getattr(content, key) is None]
    if content.annotations and content.categories == [] and not content.non_objects:
        missing = ["categories"]
    listed_only = content.annotations is None and content.categories is not None
    annotations = content.annotations or []
    if not listed_only:
        reader.find("list_missing", [f'"{key}"' for key in missing], total=3, unit="lists")
    total = len(content.images) + len(annotations) + len(content.categories or []) + content.non_objects
    reader.find("entry_no_object", [], count=content.non_objects, total=total, unit="entries")
    if not content.images:
        reader.find("no_images", [path.name], total=1, unit="files")
    images = reader.images(content.images, find_folder)
    categories = reader.categories(content.categories, annotations)
    boxes = reader.boxes(annotations, images, categories)
    split = Split(name, path, images, boxes, categories, labelled=not listed_only)
    split, formats = in_coco_format(split)
    findings = [*reader.findings, *formats, *(check_boxes(split, reader.boxless) if split.labelled else ())]
    return Reading(split, [finding for finding in findings if finding.count])


class _Reader:
    """Makes columns of entries, and collects findings.

    Attributes:
        findings: the findings so far.
        box_ids: ids of the annotations.
        boxless: rows of annotations whose bbox can't be used, by the kind of the finding.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self.box_ids: list[Id] = []
        self.boxless: dict[str, list[int]] = {}

    def find(
        self, kind: str, ids: Sequence[Any], note: str = "", *, total: int, unit: str, count: int | None = None
    ) -> None:
        """Add a finding about the entries with these ids, or about ``count`` entries without ids."""
        count = len(ids) if count is None else count
        self.findings.append(Finding(kind, self.name, count, total, unit, ids, note))

    def images(self, entries: list[Any], find_folder: FindFolder) -> ImageColumns:
        """Return the columns of ``images``."""
        find = partial(self.find, total=len(entries), unit="images")
        ids, bad = whole_numbers(column(entries, "id"))
        find("image_id", [_shown(entries[row].id) for row in bad])
        repeated = repeated_rows(ids)
        find("image_id_twice", [ids[row] for row in repeated])
        names = [_text(entry.file_name) for entry in entries]
        find("file_name_missing", [entry_label(ids, row) for row, name in enumerate(names) if name is None])
        known = set(repeated)
        find("file_name_twice", [names[row] for row in repeated_rows(names) if row not in known])
        find("file_name_path", _tied_to_a_machine(names))
        widths, bad_widths = sizes_of(column(entries, "width"))
        heights, bad_heights = sizes_of(column(entries, "height"))
        sizes = np.stack([widths, heights], axis=1)
        sizeless = np.flatnonzero(bad_widths | bad_heights)
        sizes[sizeless] = self.sizes_of_pictures([names[row] for row in sizeless], find_folder)
        unknown = np.isnan(sizes[sizeless]).any(axis=1)
        for kind, rows in (("image_size", sizeless[unknown]), ("image_size_read", sizeless[~unknown])):
            find(kind, [names[row] or entry_label(ids, row) for row in rows.tolist()])
        addresses = [_text(entry.coco_url) or _text(entry.flickr_url) for entry in entries]
        return ImageColumns(ids, names, sizes, addresses)

    def sizes_of_pictures(self, names: list[str | None], find_folder: FindFolder) -> np.ndarray:
        """Return the width and height ``[N, 2]`` of pictures with these names, NaN if they can't be read."""
        folder = find_folder(names) if names else None
        if folder is None:
            return np.full((len(names), 2), np.nan)
        found = find_image_files(names, folder, split=self.name)
        return picture_sizes([None if name is None else folder / name for name in found.names])

    def categories(self, entries: list[Any] | None, annotations: list[Any]) -> CategoryColumns:
        """Return the columns of ``categories``; if the file lists none, the categories of the annotations."""
        if not entries:
            used, _ = whole_numbers(column(annotations, "category_id"))
            known = {one for one in used if one is not None}
            ids: list[Id] = sorted(known, key=lambda one: (isinstance(one, str), one))
            return CategoryColumns(ids, [f"category {one}" for one in ids], [None] * len(ids), listed=False)
        find = partial(self.find, total=len(entries), unit="classes")
        ids, bad = whole_numbers(column(entries, "id"))
        find("category_id", [_shown(entries[row].id) for row in bad])
        find("category_id_twice", [ids[row] for row in repeated_rows(ids)])
        texts = [_class_name(entry.name) for entry in entries]
        find("class_no_name", [entry_label(ids, row) for row, text in enumerate(texts) if text is None])
        names = [f"category {entry_label(ids, row)}" if text is None else text for row, text in enumerate(texts)]
        return CategoryColumns(ids, names, [_text(entry.supercategory) for entry in entries])

    def boxes(self, entries: list[Any], images: ImageColumns, categories: CategoryColumns) -> BoxColumns:
        """Return the columns of ``annotations``."""
        self.box_ids = self.annotation_ids(column(entries, "id"))
        image = self.image_positions(column(entries, "image_id"), images.ids)
        category = self.category_positions(column(entries, "category_id"), categories.ids)
        xywh, absent, malformed = boxes_of(column(entries, "bbox"))
        absent = self.boxes_of_masks(entries, xywh, absent)
        self.boxless = {"box_missing": absent, "box_no_numbers": malformed}
        crowd = self.crowd(column(entries, "iscrowd"))
        area = self.area(column(entries, "area"))
        return BoxColumns(self.box_ids, image, category, xywh, crowd, area)

    def find_rows(self, kind: str, rows: Sequence[int], note: str = "") -> None:
        """Add a finding about rows of ``annotations``."""
        labels = [entry_label(self.box_ids, row) for row in rows]
        self.find(kind, labels, note, total=len(self.box_ids), unit="annotations")

    def annotation_ids(self, given: list[Any]) -> list[Id]:
        """Return the ids of annotations."""
        find = partial(self.find, total=len(given), unit="annotations")
        ids, numberless = whole_numbers(given)
        bad = [row for row in numberless if given[row] is not UNSET]
        find("annotation_id_missing", [], count=len(numberless) - len(bad))
        find("annotation_id", [_shown(given[row]) for row in bad])
        find("annotation_id_twice", [ids[row] for row in repeated_rows(ids)])
        return ids

    def image_positions(self, values: list[Any], listed: list[Id]) -> np.ndarray:
        """Return the position ``[M]`` of each annotation's image, -1 if the file does not list it."""
        ids, bad = whole_numbers(values)
        self.find_rows("image_reference", bad)
        return self.find_unknown("image_unknown", "images", ids, positions_of(ids, listed))

    def category_positions(self, values: list[Any], listed: list[Id]) -> np.ndarray:
        """Return the position ``[M]`` of each annotation's category, -1 if the file does not list it.

        Ids that count from another number than the categories are shifted first.
        """
        ids, bad = whole_numbers(values)
        self.find_rows("category_reference", bad)
        if shift := shift_of(ids, listed):
            self.find_shift(shift, ids, listed)
            return positions_of([None if one is None else one + shift for one in ids], listed)
        return self.find_unknown("category_unknown", "categories", ids, positions_of(ids, listed))

    def find_unknown(self, kind: str, what: str, ids: list[Id], positions: np.ndarray) -> np.ndarray:
        """Add a finding about annotations whose image or category is not listed; return ``positions``."""
        rows = [row for row in np.flatnonzero(positions < 0).tolist() if ids[row] is not None]
        distinct = list(dict.fromkeys(ids[row] for row in rows))
        first = f"{what} {', '.join(map(str, distinct[:5]))}{', ...' if len(distinct) > 5 else ''}"
        self.find_rows(kind, rows, first)
        return positions

    def find_shift(self, shift: int, ids: list[Id], listed: list[Id]) -> None:
        """Add a finding that the category ids of all annotations are off by one."""
        used, known = ([one for one in side if one is not None] for side in (ids, listed))
        note = f"annotations use {min(used)} to {max(used)}, categories are {min(known)} to {max(known)}"
        self.find_rows("category_off_by_one", range(len(ids)), note)
        change = "add 1 to" if shift == 1 else "subtract 1 from"
        fix = f"{change} every category_id, or number the categories from {min(used)}"
        self.findings[-1] = replace(self.findings[-1], fix=fix)

    def boxes_of_masks(self, entries: list[Any], xywh: np.ndarray, absent: list[int]) -> list[int]:
        """Fill in the boxes ``[M, 4]`` of polygons and masks; return the rows without a polygon or mask."""
        found = []
        for row in absent:
            box = box_of_mask(entries[row].segmentation)
            if box is not None:
                xywh[row] = box
                found.append(row)
        self.find_rows("box_from_mask", found)
        return sorted(set(absent) - set(found))

    def crowd(self, values: list[Any]) -> np.ndarray:
        """Return which annotations are crowd regions, ``[M]`` bool."""
        if types(values) <= {int} and set(values) <= {0, 1}:
            return np.array(values, dtype=bool)
        absent = _absent(values)
        self.find_rows("crowd_missing", absent)
        strange = {row for row, value in enumerate(values) if not is_flag(value)}
        self.find_rows("crowd_value", sorted(strange - set(absent)))
        return np.array([value in (1, "1", "true", "True") for value in values], dtype=bool)

    def area(self, values: list[Any]) -> np.ndarray:
        """Return areas ``[M]`` in square pixels, NaN if the file has no number from 0 to 1e12."""
        absent: list[int] = []
        if types(values) == {float}:
            area = np.array(values)
            area[~(np.abs(area) < LIMIT)] = np.nan
        else:
            absent = _absent(values)
            self.find_rows("area_missing", absent)
            area = np.array([float(value) if is_finite(value) else np.nan for value in values])
        area[area < 0] = np.nan
        given = np.ones(len(values), bool)
        given[absent] = False
        self.find_rows("area_value", np.flatnonzero(given & np.isnan(area)).tolist())
        return area


def _absent(values: list[Any]) -> list[int]:
    return [row for row, value in enumerate(values) if value is UNSET or value is None]


def _tied_to_a_machine(names: list[str | None]) -> list[str]:
    """Return the names that only one machine knows, without addresses of servers."""
    if not NOT_PLAIN.search("\n".join(filter(None, names))):  # the usual case, a hundred times faster
        return []
    return [name for name in names if name and NOT_PLAIN.search(name) and not ADDRESS.match(name)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _class_name(value: Any) -> str | None:
    """Return the name of a class, None if it is empty or blank; a number is its own name."""
    name = str(value) if type(value) in (int, float) and abs(value) < LIMIT else _text(value)
    return name if name and name.strip() else None


def _shown(value: Any) -> str:
    """Return a value as the file has it."""
    return "missing" if value is UNSET else "null" if value is None else quoted(value)
