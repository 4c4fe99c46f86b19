"""Decodes the entries of a COCO file, also entries with missing fields or wrong types.

The format: https://cocodataset.org/#format-data. The polygons of COCO 2017 would take 3 GB as Python objects, so
msgspec skips them. A file whose entries all have the right types is decoded in one pass. In any other file each entry
keeps its named fields with the types of the file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from dino_detector.errors import InputError
from dino_detector.storage.files import as_utf8, parse_json, paused_collection

WHOLE_NUMBERS = range(-(2**63), 2**63)
"""64-bit integers, the range of ids"""
LARGEST_SIDE = 10**7
"""largest width or height of an image in pixels"""
NOT_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|NaN|Infinity', re.DOTALL)
"""a string, which stays as it is, or NaN or Infinity, which Python writes and JSON lacks"""
JSON_FOR = {b"NaN": b"null", b"Infinity": b"1e999"}
"""replacements for NaN and Infinity: no value, and a number too large for float64"""
LARGE = 2**26
"""largest size in bytes at which Python parses a file that msgspec refuses; Python names the line of the mistake"""

Int64 = Annotated[int, Meta(ge=WHOLE_NUMBERS[0], le=WHOLE_NUMBERS[-1])]
Pixels = Annotated[int, Meta(ge=1, le=WHOLE_NUMBERS[-1])]
Name = Annotated[str, Meta(min_length=1)]


class ImageEntry(Struct, gc=False):
    """An entry of ``images``."""

    id: Int64
    file_name: Name
    height: Pixels
    width: Pixels
    coco_url: Any = UNSET
    flickr_url: Any = UNSET


class AnnotationEntry(Struct, gc=False):
    """An entry of ``annotations``."""

    image_id: Int64
    category_id: Int64
    bbox: tuple[float, float, float, float]
    id: Int64 = UNSET
    iscrowd: Literal[0, 1] = UNSET
    area: float = UNSET


class CategoryEntry(Struct, gc=False):
    """An entry of ``categories``."""

    id: Int64
    name: Name
    supercategory: Any = UNSET


def _loose(kind: type[Struct], **more: Any) -> type[Struct]:
    """Return a kind of entry whose fields can be missing or of any type."""
    types = dict.fromkeys(kind.__struct_fields__, Any) | more
    return msgspec.defstruct(f"Loose{kind.__name__}", [(name, hint, UNSET) for name, hint in types.items()], gc=False)


LOOSE = {
    "images": _loose(ImageEntry),
    "annotations": _loose(AnnotationEntry, segmentation=Raw),
    "categories": _loose(CategoryEntry),
}


class _File(Struct, gc=False):
    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry]


class Content(NamedTuple):
    """The entries of a file.

    Attributes:
        images: entries of ``images``; fields may be missing (UNSET) or of any type.
        annotations: entries of ``annotations``, None if the file has no such list.
        categories: entries of ``categories``, None if the file has no such list.
        non_objects: number of entries that were left out because they are not objects.
    """

    images: list[Any]
    annotations: list[Any] | None
    categories: list[Any] | None
    non_objects: int = 0


def read_content(path: Path) -> Content:
    """Read the entries of a COCO file.

    Raises:
        InputError: the file can't be read, is not JSON, or has no list of images.
    """
    with paused_collection():
        text = _read(path)
        try:
            file = msgspec.json.decode(text, type=_File)
            return Content(file.images, file.annotations, file.categories)
        except (ValueError, RecursionError):
            pass
        if not text.strip():
            raise InputError(f"{path}: is empty; write or download it again")
        if b"NaN" in text or b"Infinity" in text:
            text = NOT_JSON.sub(lambda found: JSON_FOR.get(found[0], found[0]), text)
        try:
            text.decode()
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
            raise InputError(f"{path}: not UTF-8 text ({reason}); save it as UTF-8") from None
        return content_of(_parts(path, text), path)


def content_of(parts: Any, path: Path) -> Content:
    """Return the entries of a COCO file.

    Args:
        parts: the outermost object of the file; its values are `Raw` JSON or Python values.
        path: the file, for messages.

    Raises:
        InputError: ``parts`` is not an object, or has no list of images.
    """
    if isinstance(parts, list):
        raise InputError(f"{path}: {_describe_list(parts)}")
    if not isinstance(parts, dict):
        raise InputError(f'{path}: not a COCO detection file: it has no list "images"; give another file')
    skipped = 0
    lists: list[Any] = []
    for key, kind in LOOSE.items():
        entries, others = _entries(parts[key], kind) if key in parts else (None, 0)
        lists.append(entries)
        skipped += others
    images, annotations, categories = lists
    if images is None:
        raise InputError(f"{path}: {_describe_object(list(parts))}")
    return Content(images, annotations, categories, skipped)


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


def _parts(path: Path, text: bytes) -> Any:
    """Return the outermost object with `Raw` values, or the parsed content if the file holds something else."""
    try:
        try:
            return msgspec.json.decode(text, type=dict[str, Raw])
        except (ValueError, RecursionError):
            if len(text) > LARGE:
                raise
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or cut short ({error}); write or download it again") from None


def _describe_list(content: list[Any]) -> str:
    first = content[0] if content and isinstance(content[0], dict) else {}
    if "score" in first and "bbox" in first:
        return "is a list of detections (COCO results), not annotations; give the annotation file it was made for"
    if "image" in first and "annotations" in first:
        return "is a CreateML file, not COCO; export the annotations as COCO JSON"
    return (
        'is a list, not a COCO detection file, which is an object with the lists "images", "annotations" and '
        '"categories"; give another file'
    )


def _describe_object(keys: list[str]) -> str:
    if "shapes" in keys:
        return "is a LabelMe file of one image, not COCO; export the annotations as COCO JSON"
    if "_via_img_metadata" in keys:
        return "is a VIA project, not COCO; export the annotations as COCO JSON"
    found = ", ".join(f'"{key[:40]}"' for key in keys[:5])
    but = f", but {found}" if found else ""
    return f'not a COCO detection file: it has no list "images"{but}; give another file'


def _entries(part: Any, kind: type[Struct]) -> tuple[list[Any] | None, int]:
    """Return the objects of a list and the number of its other entries; None and 0 if ``part`` is not a list."""
    if isinstance(part, Raw):
        try:
            return msgspec.json.decode(part, type=list[kind]), 0
        except (ValueError, RecursionError):
            pass
        try:
            part = msgspec.json.decode(part, type=list[Raw])
        except (ValueError, RecursionError):
            return None, 0
    if not isinstance(part, list):
        return None, 0
    entries = [_entry(one, kind) for one in part]
    objects = [entry for entry in entries if entry is not None]
    return objects, len(entries) - len(objects)


def _entry(part: Any, kind: type[Struct]) -> Any | None:
    """Return an entry, or None if it is not a readable object; Python reads numbers that msgspec refuses, as 1e999."""
    if isinstance(part, Raw):
        try:
            return msgspec.json.decode(part, type=kind)
        except (ValueError, RecursionError):
            pass
    try:
        content = plain_value(part)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    return kind(**{name: content[name] for name in kind.__struct_fields__ if name in content})


def plain_value(part: Any) -> Any:
    """Return a value in Python types; raise `ValueError` or `RecursionError` for JSON that Python can't read."""
    return json.loads(bytes(part), parse_int=_number) if isinstance(part, Raw) else part


def _number(digits: str) -> int | float:
    """Return a whole number, or a float if it has far more digits than an id."""
    return int(digits) if len(digits) < 400 else float(digits)
