"""Parts of a COCO file beyond images, boxes and classes: copied from COCO to COCO, and counted for other formats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from dino_detector.data.conversion.labelled import Notes, Picture
from dino_detector.storage.files import as_utf8, paused_collection, read_json

KNOWN = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd"},
    "categories": {"id", "name"},
}
"""fields that every conversion reads"""
NOTHING = {b"", b"[]", b"null", b"[[]]", b'""', b"{}", b"0"}
"""values of a field that says nothing"""
THINGS = {
    ("annotations", "segmentation"): ("polygon or mask", "polygons and masks"),
    ("annotations", "keypoints"): ("set of keypoints", "sets of keypoints"),
    ("categories", "supercategory"): ("supercategory", "supercategories"),
}
"""fields with a name of their own in notes, for one and for many"""


def copy_coco(source: Path, target: Path, pictures: Sequence[Picture]) -> None:
    """Copy a COCO file, and change only the file names of its images.

    Raises:
        InputError: the file can't be read.
    """
    with paused_collection():
        content = _raw(source)
        if content is None:  # NaN, or a broken character
            content = read_json(source)
            _rename([entry for entry in content["images"] if isinstance(entry, dict)], pictures, str)
            target.write_text(json.dumps(content), "utf-8")
            return
        images = msgspec.json.decode(content["images"], type=list[Any])
        _rename([entry for entry in images if isinstance(entry, dict)], pictures, str)
        target.write_bytes(msgspec.json.encode(content | {"images": images}))


def _rename(entries: Sequence[dict[str, Any]], pictures: Sequence[Picture], kind: type) -> None:
    for entry, picture in zip(entries, pictures, strict=True):
        if isinstance(entry.get("file_name"), kind):
            entry["file_name"] = picture.name


def note_extras(source: Path, title: str, notes: Notes) -> None:
    """Note the parts of a COCO file that the format ``title`` has no place for, and the ids."""
    with paused_collection():
        content = _raw(source)
        lists = read_json(source) if content is None else content
        for key, known in KNOWN.items():
            others: dict[str, int] = {}
            for entry in _entries(lists.get(key)):
                for field, value in entry.items():
                    if field not in known and _says_something(value):
                        others[field] = others.get(field, 0) + 1
            for field, count in others.items():
                if (key, field) in THINGS:
                    one, many = THINGS[key, field]
                    notes.count(one, f"{title} files of boxes have none; left out", count, many=many)
                elif field != "num_keypoints":
                    what = f"{field!r} of {key}"
                    notes.count(what, f"{title} has no place for it; left out", count, many=what)
        fields = [
            f"{key} of {source.name}" for key, value in lists.items() if key not in KNOWN and _says_something(value)
        ]
        notes.add("field of the file", f"{title} has no place for it; left out", fields, many="fields of the file")


def _raw(source: Path) -> dict[str, Raw] | None:
    """Return the values of a COCO file by key, unparsed; None if msgspec can't read the JSON."""
    try:
        content = msgspec.json.decode(as_utf8(source.read_bytes()), type=dict[str, Raw])
        list(_entries(content.get("images")))
        return content
    except (ValueError, RecursionError):
        return None


def _entries(values: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list, whose values are raw if the list is."""
    if isinstance(values, Raw):
        try:
            yield from msgspec.json.decode(values, type=list[dict[str, Raw]])
            return
        except ValueError:  # an entry is no object
            values = msgspec.json.decode(values)
    yield from (entry for entry in values or () if isinstance(entry, dict))


def _says_something(value: Any) -> bool:
    text = bytes(value) if isinstance(value, Raw) else json.dumps(value).encode()
    return text.strip() not in NOTHING
