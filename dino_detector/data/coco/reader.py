"""Reads a COCO file and reports all of its mistakes.

Training raises the first mistake that stops it, and ``dino-detector data`` lists them all. Both use this reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from dino_detector.data.coco.box_checks import check_boxes
from dino_detector.data.coco.box_format import in_coco_format
from dino_detector.data.coco.columns import (
    BoxColumns,
    CategoryColumns,
    Id,
    ImageColumns,
    Split,
    entry_label,
)
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
    """A file and what is wrong with it; boxes in other formats are converted."""

    split: Split
    findings: list[Finding]


FindFolder = Callable[[Sequence[str | None]], Path | None]
"""returns the folder of images with these file names, None where it is unknown"""


def read_split(path: Path, name: str, *, find_folder: FindFolder) -> Reading:
    """Read an annotation file: keep every readable entry, and report every mistake as a finding.

    Args:
        path: the file.
        name: name of the split in the findings.
        find_folder: finds the folder of the images; sizes that the file lacks are read from the pictures there.

    Raises:
        InputError: it can't be read, is not JSON, or has no list of images.
    """
    return read_entries(read_content(path), path, name, find_folder=find_folder)


def read_entries(content: Content, path: Path, name: str, *, find_folder: FindFolder) -> Reading:
    """Make a `Reading` of decoded entries; the other arguments are those of `read_split`."""
    reader = _Reader(name)
    missing = [key for key in ("annotations", "categories") if getattr(content, key) is None]
    if content.annotations and content.categories == [] and not content.non_objects:
        missing = ["categories"]
    listed_only = content.annotations is None and content.categories is not None
    if missing and not listed_only:
        reader.find("list_missing", len(missing), 3, "lists", [f'"{key}"' for key in missing])
    total = len(content.images) + len(content.annotations or []) + len(content.categories or []) + content.non_objects
    reader.find("entry_no_object", content.non_objects, total, "entries", ())
    if not content.images:
        reader.find("no_images", 1, 1, "files", [path.name])
    images = reader.images(content.images, find_folder)
    annotations = content.annotations or []
    categories = reader.categories(content.categories, annotations)
    boxes = reader.boxes(annotations, images, categories)
    split = Split(name, path, images, boxes, categories, labelled=not listed_only)
    split, formats = in_coco_format(split)
    findings = [*reader.findings, *formats, *(check_boxes(split, reader.boxless) if split.labelled else ())]
    return Reading(split, [finding for finding in findings if finding.count])


class _Reader:
    """Makes columns of entries, and collects findings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self.box_ids: list[Id] = []
        self.boxless: dict[str, list[int]] = {}
        """rows of annotations whose bbox can't be used, by the kind of the finding"""

    def find(self, kind: str, count: int, total: int, unit: str, ids: Sequence[Any], note: str = "") -> None:
        if count:
            self.findings.append(Finding(kind, self.name, count, total, unit, ids, note))

    def images(self, entries: list[Any], find_folder: FindFolder) -> ImageColumns:
        total = len(entries)
        ids, bad = whole_numbers(column(entries, "id"))
        self.find("image_id", len(bad), total, "images", [_shown(entries[row].id) for row in bad])
        repeated = repeated_rows(ids)
        self.find("image_id_twice", len(repeated), total, "images", [ids[row] for row in repeated])
        names = [entry.file_name if isinstance(entry.file_name, str) and entry.file_name else None for entry in entries]
        nameless = [row for row, name in enumerate(names) if name is None]
        self.find("file_name_missing", len(nameless), total, "images", [entry_label(ids, row) for row in nameless])
        known = set(repeated)
        again = [row for row in repeated_rows(names) if row not in known]
        self.find("file_name_twice", len(again), total, "images", [names[row] for row in again])
        strange = _tied_to_a_machine(names)
        self.find("file_name_path", len(strange), total, "images", [names[row] for row in strange])
        widths, bad_widths = sizes_of(column(entries, "width"))
        heights, bad_heights = sizes_of(column(entries, "height"))
        sizes = np.stack([widths, heights], axis=1)
        sizeless = np.flatnonzero(bad_widths | bad_heights).tolist()
        sizes[sizeless] = self.sizes_of_pictures([names[row] for row in sizeless], find_folder)
        unknown = np.isnan(sizes[sizeless]).any(axis=1)
        for kind, which in (("image_size", unknown), ("image_size_read", ~unknown)):
            rows = [row for row, chosen in zip(sizeless, which, strict=True) if chosen]
            self.find(kind, len(rows), total, "images", [names[row] or entry_label(ids, row) for row in rows])
        addresses = [_text(entry.coco_url) or _text(entry.flickr_url) for entry in entries]
        return ImageColumns(ids, names, sizes, addresses)

    def sizes_of_pictures(self, names: list[str | None], find_folder: FindFolder) -> np.ndarray:
        """``[N, 2]`` width and height of the pictures of these names, NaN where one can't be read."""
        folder = find_folder(names) if names else None
        if folder is None:
            return np.full((len(names), 2), np.nan)
        found = find_image_files(names, folder, split=self.name)
        return picture_sizes([None if name is None else folder / name for name in found.names])

    def categories(self, entries: list[Any] | None, annotations: list[Any]) -> CategoryColumns:
        """The classes; where the file lists none, those that annotations refer to."""
        if not entries:
            used, _ = whole_numbers(column(annotations, "category_id"))
            known = {one for one in used if one is not None}
            ids: list[Id] = sorted(known, key=lambda one: (isinstance(one, str), one))
            return CategoryColumns(ids, [f"category {one}" for one in ids], [None] * len(ids), listed=False)
        ids, bad = whole_numbers(column(entries, "id"))
        total = len(entries)
        self.find("category_id", len(bad), total, "classes", [_shown(entries[row].id) for row in bad])
        repeated = repeated_rows(ids)
        self.find("category_id_twice", len(repeated), total, "classes", [ids[row] for row in repeated])
        texts = [_class_name(entry.name) for entry in entries]
        nameless = [row for row, text in enumerate(texts) if text is None]
        self.find("class_no_name", len(nameless), total, "classes", [entry_label(ids, row) for row in nameless])
        names = [f"category {entry_label(ids, row)}" if text is None else text for row, text in enumerate(texts)]
        return CategoryColumns(ids, names, [_text(entry.supercategory) for entry in entries])

    def boxes(self, entries: list[Any], images: ImageColumns, categories: CategoryColumns) -> BoxColumns:
        """Return the columns of ``annotations``."""
        self.box_ids = self.annotation_ids(entries)
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
        self.find(kind, len(rows), len(self.box_ids), "annotations", labels, note)

    def image_positions(self, values: list[Any], listed: list[Id]) -> np.ndarray:
        """Return the position ``[M]`` of each annotation's image, -1 where the file lists no such image."""
        ids, bad = whole_numbers(values)
        self.find_rows("image_reference", bad)
        positions = positions_of(ids, listed)
        self.find_unknown("image_unknown", "images", ids, positions)
        return positions

    def category_positions(self, values: list[Any], listed: list[Id]) -> np.ndarray:
        """Return the position ``[M]`` of each annotation's category, -1 where the file lists no such category.

        Ids that count from another number than the categories are shifted first.
        """
        ids, bad = whole_numbers(values)
        self.find_rows("category_reference", bad)
        if shift := shift_of(ids, listed):
            self.find_shift(shift, ids, listed)
            return positions_of([None if one is None else one + shift for one in ids], listed)
        positions = positions_of(ids, listed)
        self.find_unknown("category_unknown", "categories", ids, positions)
        return positions

    def find_unknown(self, kind: str, what: str, ids: list[Id], positions: np.ndarray) -> None:
        """Add a finding about annotations whose image or category is not listed."""
        rows = [row for row in np.flatnonzero(positions < 0).tolist() if ids[row] is not None]
        self.find_rows(kind, rows, _first_ids(what, [ids[row] for row in rows]))

    def find_shift(self, shift: int, ids: list[Id], listed: list[Id]) -> None:
        """Add a finding that the category ids of all annotations are off by one."""
        used, known = ([one for one in side if one is not None] for side in (ids, listed))
        labels = [entry_label(self.box_ids, row) for row in range(len(ids))]
        note = f"annotations use {min(used)} to {max(used)}, categories are {min(known)} to {max(known)}"
        change = "add 1 to" if shift == 1 else "subtract 1 from"
        fix = f"{change} every category_id, or number the categories from {min(used)}"
        self.findings.append(
            Finding("category_off_by_one", self.name, len(ids), len(ids), "annotations", labels, note, fix)
        )

    def boxes_of_masks(self, entries: list[Any], xywh: np.ndarray, absent: list[int]) -> list[int]:
        """Fill in the boxes ``[M, 4]`` of polygons and masks; return the rows without a polygon or mask."""
        rows = [row for row in absent if getattr(entries[row], "segmentation", UNSET) is not UNSET]
        found = []
        for row in rows:
            box = box_of_mask(entries[row].segmentation)
            if box is not None:
                xywh[row] = box
                found.append(row)
        self.find_rows("box_from_mask", found)
        return sorted(set(absent) - set(found))

    def annotation_ids(self, entries: list[Any]) -> list[Id]:
        total = len(entries)
        given = column(entries, "id")
        ids, numberless = whole_numbers(given)
        bad = [row for row in numberless if given[row] is not UNSET]
        self.find("annotation_id_missing", len(numberless) - len(bad), total, "annotations", [])
        self.find("annotation_id", len(bad), total, "annotations", [_shown(given[row]) for row in bad])
        repeated = repeated_rows(ids)
        self.find("annotation_id_twice", len(repeated), total, "annotations", [ids[row] for row in repeated])
        return ids

    def crowd(self, values: list[Any]) -> np.ndarray:
        """Return which annotations are crowd regions, ``[M]`` bool."""
        if types(values) <= {int} and set(values) <= {0, 1}:
            return np.array(values, dtype=bool)
        absent = [row for row, value in enumerate(values) if value is UNSET or value is None]
        strange = sorted({row for row, value in enumerate(values) if not is_flag(value)} - set(absent))
        self.find_rows("crowd_missing", absent)
        self.find_rows("crowd_value", strange)
        return np.array([value in (1, "1", "true", "True") for value in values], dtype=bool)

    def area(self, values: list[Any]) -> np.ndarray:
        """Return areas ``[M]`` in square pixels, NaN where the file has no number from 0 to 1e12."""
        absent: list[int] = []
        if types(values) == {float}:
            area = np.array(values)
            area[~(np.abs(area) < LIMIT)] = np.nan
        else:
            absent = [row for row, value in enumerate(values) if value is UNSET or value is None]
            self.find_rows("area_missing", absent)
            area = np.array([float(value) if is_finite(value) else np.nan for value in values])
        area[area < 0] = np.nan
        given = np.ones(len(values), bool)
        given[absent] = False
        self.find_rows("area_value", np.flatnonzero(given & np.isnan(area)).tolist())
        return area


def _tied_to_a_machine(names: list[str | None]) -> list[int]:
    """Positions of the names that only one machine knows; addresses of a server are none of them."""
    if not NOT_PLAIN.search("\n".join(filter(None, names))):  # as in most files, and a hundred times faster
        return []
    return [row for row, name in enumerate(names) if name and NOT_PLAIN.search(name) and not ADDRESS.match(name)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _class_name(value: Any) -> str | None:
    """The name of a class, None for an empty or blank one; a number is its own name."""
    name = str(value) if type(value) in (int, float) and abs(value) < LIMIT else _text(value)
    return name if name and name.strip() else None


def _shown(value: Any) -> str:
    """A value as it would stand in the file."""
    return "missing" if value is UNSET else "null" if value is None else quoted(value)


def _first_ids(what: str, ids: list[Id]) -> str:
    """Which ids annotations refer to in vain."""
    distinct = list(dict.fromkeys(ids))
    return f"{what} {', '.join(map(str, distinct[:5]))}{', ...' if len(distinct) > 5 else ''}" if distinct else ""
