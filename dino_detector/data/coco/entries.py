"""Decodes the entries of a COCO file; a field may be missing or of any type.

The format: https://cocodataset.org/#format-data. The polygons of COCO 2017 would take 3 GB as Python objects, so
msgspec skips them, or keeps them as JSON if an annotation has no box.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from dino_detector.errors import InputError
from dino_detector.storage.files import as_utf8, parse_json, paused_collection

WHOLE_NUMBERS = range(-(2**63), 2**63)
"""64-bit integers, the range of ids"""
LIMIT = 1e12
"""coordinates and areas of this size or more are mistakes"""
NOT_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|NaN|Infinity', re.DOTALL)
"""a string, which stays as it is, or NaN or Infinity, which Python writes and JSON lacks"""
JSON_FOR = {b"NaN": b"null", b"Infinity": b"1e308"}
"""replacements for NaN and Infinity: no value, and a number above `LIMIT`"""
LARGE = 2**26
"""largest size in bytes at which Python parses a file that msgspec refuses; Python takes ten times as much memory"""

OTHER_FORMATS = {
    ("score", "bbox"): "a list of detections (COCO results), not annotations; give the annotation file it was made for",
    ("image", "annotations"): "a CreateML file, not COCO; save it as UTF-8",
    ("shapes",): "a labelme file of one image; give its folder",
    ("_via_img_metadata",): "a VIA project, not COCO; export the annotations as COCO JSON",
}
"""formats that are given in place of COCO, by keys of the object or of the first object of the list"""

Number = Annotated[float, Meta(gt=-LIMIT, lt=LIMIT)]
Box = tuple[Number, Number, Number, Number]


class ImageEntry(Struct, gc=False):
    """An entry of ``images``."""

    id: Any = UNSET
    file_name: Any = UNSET
    height: Any = UNSET
    width: Any = UNSET
    coco_url: Any = UNSET
    flickr_url: Any = UNSET


class BoxedEntry(Struct, gc=False):
    """An entry of ``annotations`` with a box."""

    bbox: Box
    id: Any = UNSET
    image_id: Any = UNSET
    category_id: Any = UNSET
    iscrowd: Any = UNSET
    area: Any = UNSET


class AnnotationEntry(BoxedEntry, gc=False):
    """An entry of ``annotations`` with or without a box."""

    bbox: Any = UNSET
    segmentation: Raw = UNSET


class CategoryEntry(Struct, gc=False):
    """An entry of ``categories``."""

    id: Any = UNSET
    name: Any = UNSET
    supercategory: Any = UNSET


class Content(Struct):
    """The lists of a file, None if the file lacks one; an entry that is no object is None."""

    images: list[ImageEntry | None]
    annotations: list[AnnotationEntry | None] | None = None
    categories: list[CategoryEntry | None] | None = None


class _BoxedContent(Content):
    annotations: list[BoxedEntry]


def read_content(path: Path) -> Content:
    """Read the entries of a COCO file.

    Raises:
        InputError: the file can't be read, is not JSON, or has no list of images.
    """
    with paused_collection():
        text = _read(path)
        try:
            return msgspec.json.decode(text, type=_BoxedContent)
        except (ValueError, RecursionError):
            pass
        if not text.strip():
            raise InputError(f"{path}: is empty; write or download it again")
        if b"NaN" in text or b"Infinity" in text:
            text = NOT_JSON.sub(lambda found: JSON_FOR.get(found[0], found[0]), text)
        try:
            text.decode()
            return msgspec.json.decode(text, type=Content)
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
            raise InputError(f"{path}: not UTF-8 text ({reason}); save it as UTF-8") from None
        except (ValueError, RecursionError) as error:
            if len(text) > LARGE:
                raise InputError(f"{path}: not COCO JSON, or cut short ({error}); write or download it again") from None
        try:
            parsed = parse_json(text)
        except ValueError as error:
            raise InputError(f"{path}: not JSON, or cut short ({error}); write or download it again") from None
        return content_of(parsed, path)


def content_of(parsed: Any, path: Path) -> Content:
    """Return the entries of a parsed COCO file; messages name ``path``.

    Raises:
        InputError: the file is not an object, or has no list of images.
    """
    lists = parsed if isinstance(parsed, dict) else {}
    if not isinstance(lists.get("images"), list):
        raise InputError(f"{path}: {_description(parsed)}")
    kinds = {"images": ImageEntry, "annotations": AnnotationEntry, "categories": CategoryEntry}
    return Content(**{key: _entries(lists.get(key), kind) for key, kind in kinds.items()})


def _entries(values: Any, kind: type[Struct]) -> list[Any] | None:
    if not isinstance(values, list):
        return None
    names = kind.__struct_fields__
    return [
        kind(**{name: value[name] for name in names if name in value}) if isinstance(value, dict) else None
        for value in values
    ]


def _read(path: Path) -> bytes:
    try:
        return as_utf8(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation file; correct the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct the path or the permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-16 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except ValueError as error:
        raise InputError(f"{path}: is {error}") from None


def _description(parsed: Any) -> str:
    """Return the reason why a parsed file is no COCO detection file."""
    first = parsed[0] if isinstance(parsed, list) and parsed else parsed
    keys = list(first) if isinstance(first, dict) else []
    for typical, description in OTHER_FORMATS.items():
        if set(typical) <= set(keys):
            return f"is {description}"
    if isinstance(parsed, list):
        lists = '"images", "annotations" and "categories"'
        return f"is a list, not a COCO detection file, which is an object with the lists {lists}; give another file"
    found = ", ".join(f'"{key[:40]}"' for key in keys[:5])
    but = f", but {found}" if found else ""
    return f'not a COCO detection file: it has no list "images"{but}; give another file'
