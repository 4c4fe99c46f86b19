"""Reads Open Images: a CSV file with a line for each box, in fractions of the image.

The format: https://storage.googleapis.com/openimages/web/download_v7.html. Names of the classes are in
``class-descriptions-boxable.csv`` near the file. hotcoco's reader leaves file names without an extension.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dino_detector.data.formats.rows import Reading, Rows
from dino_detector.data.formats.splits import SPELLINGS, AnnotationFile, files_of, name_sources
from dino_detector.data.pictures.finding import find_pictures
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed


def find_open_images(folder: Path) -> list[AnnotationFile]:
    """Return the CSV files of a folder and its subfolders, each with the folder of its pictures."""
    named = name_sources([*files_of("Open Images", folder, "*.csv", "*/*.csv")], folder, "Open Images")
    places = [
        [root / spelling for root in (file.path.parent, folder) for spelling in SPELLINGS.get(file.name, ())]
        for file in named
    ]
    folders = [next((place for place in some if place.is_dir()), None) for some in places]
    return [file._replace(images=place) for file, place in zip(named, folders, strict=True)]


def read_open_images(source: AnnotationFile) -> Reading:
    """Read the boxes of the pictures in a folder; a group of objects is a crowd.

    Pictures of the folder without a line have no objects. If the folder is unknown, the pictures are below the folder
    of the file, and pictures without a line are left out. Lines of absent pictures are left out, and a note counts
    them.

    Raises:
        InputError: a line is wrong, and the message names its number; or two pictures have the identifier of a line.
    """
    path, folder = source.path, source.images or source.path.parent
    pictures = find_pictures(folder, recursive=True).pictures
    by_stem: dict[str, list[Path]] = {}
    for picture in pictures:
        by_stem.setdefault(picture.stem, []).append(picture)
    absent: Counter[str] = Counter()
    names = _class_names(path)
    by_image: dict[str, list[tuple[str, list[float], bool, int]]] = {}
    for number, row in _lines(path):
        if not row["ImageID"]:
            raise InputError(f"{path}, line {number}: has no ImageID; correct it")
        if row["ImageID"] not in by_stem:
            absent[row["ImageID"]] += 1
            continue
        if len(same := by_stem[row["ImageID"]]) > 1:
            raise InputError(
                f"{path}, line {number}: the image {row['ImageID']} may be {same[0]} or {same[1]}; rename or move one"
            )
        try:
            edges = [float(row[edge]) for edge in ("XMin", "YMin", "XMax", "YMax")]
        except (TypeError, ValueError):
            raise InputError(f"{path}, line {number}: a box is not four numbers; correct it") from None
        if not row["LabelName"]:
            raise InputError(f"{path}, line {number}: has no LabelName; correct it")
        label = names.get(row["LabelName"], row["LabelName"])
        by_image.setdefault(row["ImageID"], []).append((label, edges, row.get("IsGroupOf") == "1", number))
    if source.images is None:
        pictures = [picture for picture in pictures if picture.stem in by_image]
    rows = Rows(unit="line")
    for picture, (width, height) in zip(pictures, picture_sizes(pictures).tolist(), strict=True):
        across, down = rows.measured(picture.relative_to(folder).as_posix(), width, height)
        for label, (left, top, right, bottom), crowd, number in by_image.get(picture.stem, ()):
            rows.box(label, (left * across, top * down, right * across, bottom * down), (path, number), crowd=crowd)
    lines, verb = counted(absent.total(), "line"), "is" if absent.total() == 1 else "are"
    left_out = f"{lines} of {counted(len(absent), 'absent picture')} {verb} left out: {listed(sorted(absent))}"
    return rows.reading(left_out if absent else None)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the columns of each line; raise `InputError` if the file is no text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            yield from ((reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8") from error


def _class_names(path: Path) -> dict[str, str]:
    """Return the names of the classes by their identifiers, such as ``/m/0cmf2``; empty if no file lists them."""
    for folder in (path.parent, path.parent.parent):
        for file in sorted(folder.glob("*class-descriptions*.csv")):
            try:
                with file.open(encoding="utf-8-sig", newline="") as lines:
                    return {row[0]: row[1] for row in csv.reader(lines) if len(row) > 1}
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise InputError(f"{file}: cannot be read as CSV ({error}); save it as UTF-8") from error
    return {}
