"""Reads a data set of any format into pictures with boxes, and notes what the target format can't hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dino_detector.data.coco.columns import CategoryColumns, Split, entry_label
from dino_detector.data.coco.findings import KINDS, Finding
from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.coco.reader import read_entries
from dino_detector.data.conversion.labelled import Box, Labelled, Notes, Picture
from dino_detector.data.conversion.to_coco import coco_folder
from dino_detector.data.conversion.xml_text import xml_name
from dino_detector.data.formats.reading import read_annotations
from dino_detector.data.formats.rows import STAND_IN_SIZE
from dino_detector.data.formats.splits import AnnotationFile
from dino_detector.data.layouts import find_images_dir, find_sources
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError
from dino_detector.plain_text import listed

ROLES = ("train", "val", "test")
TITLES = {"yolo": "YOLO", "voc": "Pascal VOC", "labelme": "labelme", "cvat": "CVAT", "coco": "COCO"}
"""formats that can be written, and their names"""
CORRECTED = (
    *("boxes_corners", "boxes_centres", "boxes_fractions", "box_from_mask", "category_off_by_one", "class_no_name"),
    *("image_id_twice", "category_id_twice", "crowd_value", "entry_no_object"),
)
"""mistakes in COCO files that the reader corrects, or resolves in one of several ways"""


@dataclass
class Source:
    """A split as it was read.

    Attributes:
        file: the annotations.
        form: the name of their format.
        columns: the entries.
        findings: mistakes in the entries.
        pictures: the images in the order of the annotations, without boxes.
        notes: what the reader of the format left out or changed.
    """

    file: AnnotationFile
    form: str
    columns: Split
    findings: list[Finding]
    pictures: list[Picture]
    notes: Sequence[str]


def read_sources(data: Path, form: str) -> dict[str, Source]:
    """Read the splits of a data set; a single split that is not train, val or test has an empty name.

    Raises:
        InputError: the data can't be read, or the target format ``form`` has no place for the splits.
    """
    files = find_sources(data)
    names = [file.name for file in files]
    others = [name for name in names if name not in ROLES]
    if len(files) > 1 and others and form not in ("coco", "cvat"):
        raise InputError(
            f"{data}: has the splits {listed(names)}, and {TITLES[form]} has train, val and test only; "
            f"convert one file at a time, such as {files[0].path}"
        )
    folder = data if data.is_dir() else data.parent
    keys = [name.replace("/", "_").replace("\\", "_") if name in ROLES or len(files) > 1 else "" for name in names]
    _require_different([coco_folder(key) if form == "coco" else key for key in keys], files, data)
    return {key: _read(file, folder) for key, file in zip(keys, files, strict=True)}


def _require_different(targets: Sequence[str], files: Sequence[AnnotationFile], data: Path) -> None:
    """Raise `InputError` if two splits would be written to one place."""
    for target in targets:
        paths = [str(file.path) for file, other in zip(files, targets, strict=True) if other == target]
        if len(paths) > 1:
            raise InputError(
                f"{data}: {listed(paths)} would all be written as {target!r}; rename one, or convert one file at a time"
            )


def _read(file: AnnotationFile, folder: Path) -> Source:
    reading = read_annotations(file)
    content = reading.content
    found: list[Path | None] = []

    def find_folder(names: Sequence[str | None]) -> Path | None:
        if not found:
            found.append(find_images_dir(names, source=file, folder=folder, given=None))
        return found[0]

    given = [entry.file_name for entry in content.images if entry is not None]
    images_dir = find_folder([name if isinstance(name, str) else None for name in given])
    columns, findings = read_entries(content, file.path, file.name, find_folder=find_folder, places=reading.places)
    names = columns.images.names
    files = find_image_files(names, images_dir, split=file.name).names if images_dir else [None] * len(names)
    pictures = [
        Picture(on_disk or name or f"image_{entry_label(columns.images.ids, row)}", path, tuple(size))
        for row, (name, on_disk, size) in enumerate(zip(names, files, columns.images.sizes.tolist(), strict=True))
        for path in [images_dir / on_disk if on_disk else None]
    ]
    return Source(file, file.format, columns, findings, pictures, reading.notes)


def label(sources: dict[str, Source], form: str, notes: Notes) -> Labelled:
    """Return the pictures of all splits with their boxes; number the classes of all splits together."""
    by_name = form in ("voc", "labelme", "cvat")
    clean = xml_name if form in ("voc", "cvat") else str
    keys = [_class_keys(source.columns.categories, clean, by_name=by_name) for source in sources.values()]
    numbered = next(iter(sources.values())).form in ("COCO", "YOLO")
    numbers: dict[tuple[str, int], int | float] = {}
    for source, of_split in zip(sources.values(), keys, strict=True):
        for number, key in zip(source.columns.categories.ids, of_split, strict=True):
            value = number if isinstance(number, int) else math.inf
            numbers[key] = min(value, numbers.get(key, math.inf))
    changed = _other_ids(sources, keys, numbers) if numbered and form in ("coco", "yolo") else {}
    if not numbered or changed:
        numbers = {key: number for number, key in enumerate(numbers, start=0 if form == "yolo" else 1)}
    ordered = sorted(numbers, key=numbers.__getitem__)
    labels = {key: position for position, key in enumerate(ordered)}
    ids = [int(numbers[key]) if math.isfinite(numbers[key]) else -1 for key in ordered]
    is_copy = form == "coco" and all(source.form == "COCO" for source in sources.values())
    if changed and not is_copy:
        pairs = [f"{key[0]}: {old} -> {ids[labels[key]]}" for key, old in changed.items()]
        notes.add("class id", "two classes have one id, or a class has two; all classes are numbered anew", pairs)
    for source, of_split in zip(sources.values(), keys, strict=True):
        for note in source.notes:
            notes.say(str(source.file.path), note)
        _note_file_names(source, notes)
        _note_unreadable(source, notes)
        _note_classes(source, of_split, form, notes)
        _add_boxes(source, [labels[key] for key in of_split], notes)
    return Labelled({name: source.pictures for name, source in sources.items()}, [name for name, _ in ordered], ids)


def _other_ids(
    sources: dict[str, Source], keys: Sequence[list[tuple[str, int]]], numbers: dict[tuple[str, int], int | float]
) -> dict[tuple[str, int], str]:
    """Return the ids of each class in the splits if a class has two ids or two classes have one; else nothing."""
    given: dict[tuple[str, int], list[str]] = {}
    for source, of_split in zip(sources.values(), keys, strict=True):
        for number, key in zip(source.columns.categories.ids, of_split, strict=True):
            given.setdefault(key, []).append(str(number))
    ids = {key: " or ".join(dict.fromkeys(some)) for key, some in given.items()}
    whole = [number for number in numbers.values() if math.isfinite(number)]
    is_plain = len(set(whole)) == len(whole) and all(len(set(some)) == 1 for some in given.values())
    return {} if is_plain else ids


def _class_keys(categories: CategoryColumns, clean: Callable[[str], str], *, by_name: bool) -> list[tuple[str, int]]:
    """Return the name of each category, and the number of earlier ones with the name unless names alone count."""
    keys: list[tuple[str, int]] = []
    for number, name in zip(categories.ids, categories.names, strict=True):
        plain = clean(name) or f"class_{number}"
        keys.append((plain, 0 if by_name else sum(key[0] == plain for key in keys)))
    return keys


def _note_file_names(source: Source, notes: Notes) -> None:
    pairs = zip(source.columns.images.names, source.pictures, strict=True)
    changed = (f"{name} -> {picture.name}" for name, picture in pairs if picture.file and name != picture.name)
    notes.add("file name", "written as the file is called on disk", changed)


def _note_unreadable(source: Source, notes: Notes) -> None:
    """Note pictures whose size is unknown though the boxes of the source are fractions of it."""
    if source.form not in ("YOLO", "Open Images"):
        return
    likely = [picture for picture in source.pictures if picture.size == STAND_IN_SIZE]
    sizes = picture_sizes([picture.file for picture in likely])
    unknown = (one.name for one, size in zip(likely, sizes.tolist(), strict=True) if math.isnan(size[0]))
    width, height = map(int, STAND_IN_SIZE)
    notes.add("unreadable picture", f"its boxes are given as if it had {width:,} x {height:,} pixels", unknown)


def _note_classes(source: Source, keys: list[tuple[str, int]], form: str, notes: Notes) -> None:
    names = source.columns.categories.names
    changed = (f"{old!r} -> {new!r}" for old, (new, _) in zip(names, keys, strict=True) if old != new)
    notes.add("class name", f"{TITLES[form]} can't hold the characters", changed)
    joined = [key[0] for position, key in enumerate(keys) if key in keys[:position]]
    notes.add("class", f"{TITLES[form]} tells classes by their names; joined", joined, many="classes of equal names")


def _add_boxes(source: Source, labels: list[int], notes: Notes) -> None:
    """Add the boxes to the pictures of a source; note entries that are no box."""
    columns = source.columns.boxes
    lost: dict[str, list[str]] = {}
    rows = zip(columns.image.tolist(), columns.category.tolist(), columns.xywh.tolist(), columns.crowd, strict=True)
    for row, (image, category, box, crowd) in enumerate(rows):
        if image < 0 or category < 0 or math.isnan(box[0]):
            reason = "image" if image < 0 else "class" if category < 0 else ""
            reason = f"no {reason} of the file has the id" if reason else "has no box of four finite numbers"
            lost.setdefault(reason, []).append(str(columns.label(row)))
        else:
            source.pictures[image].boxes.append(Box(labels[category], *box, crowd=bool(crowd)))
    for reason, ids in lost.items():
        notes.add("annotation", f"{reason}; left out", ids)
    for finding in source.findings:
        if finding.kind in CORRECTED:
            effect = f"{KINDS[finding.kind].title}; converted as training reads them"
            notes.add(finding.unit, effect, map(str, finding.ids or [finding.note]), many=finding.unit)
