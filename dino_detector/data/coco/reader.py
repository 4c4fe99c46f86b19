"""Reads a COCO file and reports all of its mistakes.

Training raises the first mistake that stops it, and ``dino-detector data`` lists them all. Both use this reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta

from dino_detector.data.coco.boxes import LARGEST_SIDE, box_of_mask, check_boxes, in_coco_format
from dino_detector.data.coco.columns import BoxColumns, CategoryColumns, Id, ImageColumns, Split, entry_label
from dino_detector.data.coco.entries import LIMIT, WHOLE_NUMBERS, Box, Content, Number
from dino_detector.data.coco.findings import Finding
from dino_detector.data.coco.image_files import ADDRESS, find_image_files
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.plain_text import listed, quoted

NOT_PLAIN = re.compile(r"\\|^[/~]|^.:|(?:^|/)\.\.(?:/|$)", re.MULTILINE)
"""a file name that is absolute, has a drive or backslashes, or leads out of its folder"""
FEWEST_SHIFTED = 3
"""number of distinct category ids that are not off by one by chance"""

CHUNK = 1_000
"""number of values that are converted together; one wrong value slows down its chunk alone"""

WholeNumber = Annotated[int, Meta(ge=WHOLE_NUMBERS[0], le=WHOLE_NUMBERS[-1])]
Side = Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]
Area = Annotated[float, Meta(ge=0, lt=LIMIT)]
Text = Annotated[str, Meta(min_length=1)]
Flag = Literal[0, 1] | bool

FindFolder = Callable[[Sequence[str | None]], Path | None]
"""returns the folder of the images with these file names, None if it is unknown"""


def read_entries(
    content: Content, path: Path, name: str, *, find_folder: FindFolder, places: Sequence[str] | None = None
) -> tuple[Split, list[Finding]]:
    """Keep every readable entry of an annotation file, and report every mistake as a finding.

    Args:
        content: the decoded entries.
        path: the file.
        name: name of the split in the findings.
        find_folder: finds the folder of the images; sizes that the file lacks are read from the pictures there.
        places: the place of each annotation in the files of another format, for findings.

    Returns:
        The entries, with boxes in other formats converted, and the findings.
    """
    given = [getattr(content, key) for key in content.__struct_fields__]
    kept = [[entry for entry in entries or [] if entry is not None] for entries in given]
    images, annotations, categories = kept
    total = sum(len(entries or []) for entries in given)
    non_objects = total - sum(map(len, kept))
    reader = _Reader(name, places)
    labelled = content.annotations is not None or content.categories is None
    if labelled:
        missing = [key for key in ("annotations", "categories") if getattr(content, key) is None]
        if annotations and content.categories == [] and not non_objects:
            missing = ["categories"]
        reader.find("lists", 3, {"list_missing": [f'"{key}"' for key in missing]})
    reader.findings.append(Finding("entry_no_object", name, non_objects, total, "entries"))
    if not images:
        reader.find("files", 1, {"no_images": [path.name]})
    image_columns = reader.images(images, find_folder)
    category_columns = reader.categories(categories, annotations)
    boxes = reader.boxes(annotations, image_columns, category_columns)
    split, formats = in_coco_format(Split(name, path, image_columns, boxes, category_columns, labelled=labelled))
    checked = check_boxes(split, reader.boxless) if labelled else []
    return split, [finding for finding in (*reader.findings, *formats, *checked) if finding.count]


def column(entries: Iterable[Any], name: str) -> list[Any]:
    """Return the value of one field of every entry."""
    return list(map(attrgetter(name), entries))


def converted(values: list[Any], kind: Any) -> tuple[list[Any], list[int]]:
    """Return values of one type, and the positions of other values, which become None; 17.0 becomes 17."""
    found, bad = [], []
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        try:
            found += msgspec.convert(chunk, list[kind])
        except ValueError:  # a value of another type, or a lone surrogate
            found += [_converted(value, kind) for value in chunk]
            bad += [start + row for row, one in enumerate(found[start:]) if one is None]
    return found, bad


def _converted(value: Any, kind: Any, *, strict: bool = True) -> Any | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        return msgspec.convert(value, kind, strict=strict)
    except ValueError:
        return None


def whole_numbers(values: list[Any]) -> tuple[list[Id], list[int]]:
    """Return ids, and the positions of values that are not 64-bit integers.

    A text in their place stays, or becomes 17 if it is ``"17"``, so that references to it are not mistakes too.
    """
    ids, bad = converted(values, WholeNumber)
    for row in bad:
        if isinstance(value := values[row], str):
            number = _converted(value.strip(), WholeNumber, strict=False)
            ids[row] = value if number is None else number
    return ids, bad


def repeated_rows(values: Sequence[Any]) -> list[int]:
    """Return the positions of values that appeared before, without None."""
    if len(set(values)) == len(values):
        return []
    first = {value: row for row, value in reversed(list(enumerate(values)))}
    return [row for row, value in enumerate(values) if value is not None and first[value] < row]


def positions_of(wanted: list[Id], known: list[Id]) -> np.ndarray:
    """Return the first position ``[N]`` int64 of each wanted id in a list, -1 if the list lacks it."""
    try:
        ids, listed_ids = np.array(wanted, np.int64), np.array(known, np.int64)
    except (TypeError, ValueError, OverflowError):  # a text, or no id
        position = {one: row for row, one in reversed(list(enumerate(known))) if one is not None}
        return np.array([position.get(one, -1) for one in wanted], np.int64)
    if not len(listed_ids):
        return np.full(len(ids), -1)
    order = np.argsort(listed_ids, kind="stable")
    found = order[np.searchsorted(listed_ids, ids, sorter=order).clip(max=len(order) - 1)]
    return np.where(listed_ids[found] == ids, found, -1)


def shift_of(used: set[Any], known: set[Any]) -> int:
    """Return the shift, 1 or -1, after which every used id is known; 0 if none is needed or none fits.

    A few ids can fit by chance. So a shift is believed if one side counts from 0, if the shifted ids are exactly the
    known ids, or if at least `FEWEST_SHIFTED` ids fit.
    """
    if used <= known or not known or not all(isinstance(one, int) for one in used | known):
        return 0
    counts_from = {1: 0 in used and 0 not in known, -1: 0 in known and max(used) > max(known)}
    for shift in (1, -1):
        shifted = {one + shift for one in used}
        if shifted <= known and (counts_from[shift] or shifted == known or len(used) >= FEWEST_SHIFTED):
            return shift
    return 0


class _Reader:
    """Makes columns of entries, and collects findings.

    Attributes:
        findings: the findings so far.
        box_ids: ids of the annotations.
        places: their places in the files of another format; None for COCO.
        boxless: rows of annotations whose bbox can't be used, by the kind of the finding.
    """

    def __init__(self, name: str, places: Sequence[str] | None = None) -> None:
        self.name = name
        self.places = places
        self.findings: list[Finding] = []
        self.box_ids: list[Id] = []
        self.boxless: dict[str, list[int]] = {}

    def find(self, unit: str, total: int, found: dict[str, Sequence[Any]], note: str = "", fix: str = "") -> None:
        """Add findings about the entries with these ids or names, by the kind of the finding."""
        self.findings += [
            Finding(kind, self.name, len(ids), total, unit, ids, note, fix) for kind, ids in found.items()
        ]

    def find_rows(self, kind: str, rows: Sequence[int], note: str = "", fix: str = "") -> None:
        """Add a finding about rows of ``annotations``."""
        labels = [entry_label(self.box_ids, row) if self.places is None else self.places[row] for row in rows]
        self.find("annotations", len(self.box_ids), {kind: labels}, note, fix)

    def ids(self, given: list[Any], kind: str, unit: str, *, may_be_missing: bool = False) -> list[Id]:
        """Return the ids of a list of entries."""
        ids, bad = whole_numbers(given)
        if may_be_missing:
            bad = [row for row in bad if given[row] is not UNSET]
        repeated = [ids[row] for row in repeated_rows(ids)]
        self.find(unit, len(ids), {f"{kind}_id": [_shown(given[row]) for row in bad], f"{kind}_id_twice": repeated})
        return ids

    def images(self, entries: list[Any], find_folder: FindFolder) -> ImageColumns:
        """Return the columns of ``images``."""
        ids = self.ids(column(entries, "id"), "image", "images")
        names, nameless = converted(column(entries, "file_name"), Text)
        repeated = set(repeated_rows(ids))
        find = partial(self.find, "images", len(entries))
        find({"file_name_missing": [entry_label(ids, row) for row in nameless]})
        find({"file_name_twice": [names[row] for row in repeated_rows(names) if row not in repeated]})
        tied = [name for name in names if name and NOT_PLAIN.search(name) and not ADDRESS.match(name)]
        find({"file_name_path": tied})
        sides = [converted(column(entries, side), Side)[0] for side in ("width", "height")]
        sizes = np.array(sides, np.float64).T  # [I, 2], None becomes NaN
        sizeless = np.flatnonzero(np.isnan(sizes).any(axis=1))
        sizes[sizeless] = self.sizes_of_pictures([names[row] for row in sizeless], find_folder)
        unknown = np.isnan(sizes[sizeless]).any(axis=1)
        for kind, rows in (("image_size", sizeless[unknown]), ("image_size_read", sizeless[~unknown])):
            find({kind: [names[row] or entry_label(ids, row) for row in rows.tolist()]})
        addresses = [converted(column(entries, name), Text)[0] for name in ("coco_url", "flickr_url")]
        return ImageColumns(ids, names, sizes, [coco or flickr for coco, flickr in zip(*addresses, strict=True)])

    def sizes_of_pictures(self, names: list[str | None], find_folder: FindFolder) -> np.ndarray:
        """Return the width and height ``[N, 2]`` of pictures with these names, NaN if they can't be read."""
        folder = find_folder(names) if names else None
        if folder is None:
            return np.full((len(names), 2), np.nan)
        found = find_image_files(names, folder, split=self.name)
        return picture_sizes([None if name is None else folder / name for name in found.names])

    def categories(self, entries: list[Any], annotations: list[Any]) -> CategoryColumns:
        """Return the columns of ``categories``; if the file lists none, the categories of the annotations."""
        if not entries:
            used = set(whole_numbers(column(annotations, "category_id"))[0]) - {None}
            ids: list[Id] = sorted(used, key=lambda one: (isinstance(one, str), one))
            return CategoryColumns(ids, [f"category {one}" for one in ids], [None] * len(ids), listed=False)
        ids = self.ids(column(entries, "id"), "category", "classes")
        given = column(entries, "name")
        texts = [str(one) if _converted(one, Number) is not None else _converted(one, Text) for one in given]
        nameless = [row for row, text in enumerate(texts) if not (text and text.strip())]
        self.find("classes", len(entries), {"class_no_name": [entry_label(ids, row) for row in nameless]})
        for row in nameless:
            texts[row] = f"category {entry_label(ids, row)}"
        return CategoryColumns(ids, texts, converted(column(entries, "supercategory"), Text)[0])

    def boxes(self, entries: list[Any], images: ImageColumns, categories: CategoryColumns) -> BoxColumns:
        """Return the columns of ``annotations``."""
        given = column(entries, "id")
        missing = given.count(UNSET)
        self.findings.append(Finding("annotation_id_missing", self.name, missing, len(given), "annotations"))
        self.box_ids = self.ids(given, "annotation", "annotations", may_be_missing=True)
        image = self.references(entries, "image", images.ids)
        category = self.references(entries, "category", categories.ids)
        xywh = self.xywh(entries)
        crowd = self.crowd(column(entries, "iscrowd"))
        area = self.area(column(entries, "area"))
        return BoxColumns(self.box_ids, image, category, xywh, crowd, area, self.places)

    def references(self, entries: list[Any], kind: str, known: list[Id]) -> np.ndarray:
        """Return the position ``[M]`` of the image or category of each annotation, -1 if the file does not list it."""
        ids, bad = whole_numbers(column(entries, f"{kind}_id"))
        self.find_rows(f"{kind}_reference", bad)
        if kind == "category":
            ids = self.shifted(ids, known)
        positions = positions_of(ids, known)
        unknown = [row for row in np.flatnonzero(positions < 0).tolist() if ids[row] is not None]
        distinct = list(dict.fromkeys(ids[row] for row in unknown))
        what = {"image": "images", "category": "categories"}[kind]
        self.find_rows(f"{kind}_unknown", unknown, f"{what} {listed(distinct, 5)}")
        return positions

    def shifted(self, ids: list[Id], known: list[Id]) -> list[Id]:
        """Return the category ids of annotations; if all are off by one, correct them."""
        used, listed_ids = set(ids) - {None}, set(known) - {None}
        shift = shift_of(used, listed_ids)
        if not shift:
            return ids
        note = f"annotations use {min(used)} to {max(used)}, categories are {min(listed_ids)} to {max(listed_ids)}"
        change = "add 1 to" if shift == 1 else "subtract 1 from"
        fix = f"{change} every category_id, or number the categories from {min(used)}"
        self.find_rows("category_off_by_one", range(len(ids)), note, fix)
        return [None if one is None else one + shift for one in ids]

    def xywh(self, entries: list[Any]) -> np.ndarray:
        """Return boxes ``[M, 4]`` float64, also of polygons and masks; NaN stands for a box that can't be used."""
        given = column(entries, "bbox")
        boxes, unusable = converted(given, Box)
        absent, masks, malformed = [], [], []
        for row in unusable:
            box = None
            if given[row] not in (UNSET, None, []):
                malformed.append(row)
            elif (box := box_of_mask(entries[row].segmentation)) is not None:
                masks.append(row)
            else:
                absent.append(row)
            boxes[row] = (np.nan,) * 4 if box is None else box
        self.find_rows("box_from_mask", masks)
        self.boxless = {"box_missing": absent, "box_no_numbers": malformed}
        return np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)

    def crowd(self, given: list[Any]) -> np.ndarray:
        """Return which annotations are crowd regions, ``[M]`` bool."""
        flags, wrong = converted(given, Flag)
        for row in self.find_wrong("crowd", given, wrong):
            flags[row] = given[row] in ("1", "true", "True")
        return np.array(flags, dtype=bool)

    def area(self, given: list[Any]) -> np.ndarray:
        """Return areas ``[M]`` in square pixels, NaN if the file has no number from 0 to 1e12."""
        areas, wrong = converted(given, Area)
        self.find_wrong("area", given, wrong)
        return np.array(areas, np.float64)

    def find_wrong(self, kind: str, given: list[Any], wrong: list[int]) -> list[int]:
        """Add findings about missing values and about wrong values; return the rows of the latter."""
        absent = [row for row in wrong if given[row] is UNSET or given[row] is None]
        strange = sorted(set(wrong) - set(absent))
        self.find_rows(f"{kind}_missing", absent)
        self.find_rows(f"{kind}_value", strange)
        return strange


def _shown(value: Any) -> str:
    """Return a value as the file has it."""
    return "missing" if value is UNSET else "null" if value is None else quoted(value)
