"""From the bytes of a COCO file to its entries, whatever they hold; what the check does not need is never built.

A file of COCO's size is mostly polygons, which would take 3 GB as Python objects. msgspec skips them, and keeps of each
entry the named fields, of any type.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from dino_detector.errors import InputError
from dino_detector.files import paused_collection

NOT_JSON = re.compile(rb"([\[:,]\s*)(?:NaN|-?Infinity)(?=\s*[,\]}])")
"""numbers that Python writes though JSON has none for them"""
LARGE = 2**26
"""bytes up to which Python reads what msgspec can't, and says in which line the mistake is"""


class ImageEntry(Struct, gc=False):
    """An entry of ``images``."""

    id: Any = UNSET
    file_name: Any = UNSET
    width: Any = UNSET
    height: Any = UNSET
    coco_url: Any = UNSET
    flickr_url: Any = UNSET


class AnnotationEntry(Struct, gc=False):
    """An entry of ``annotations``."""

    id: Any = UNSET
    image_id: Any = UNSET
    category_id: Any = UNSET
    bbox: Any = UNSET
    iscrowd: Any = UNSET
    area: Any = UNSET


class CategoryEntry(Struct, gc=False):
    """An entry of ``categories``."""

    id: Any = UNSET
    name: Any = UNSET
    supercategory: Any = UNSET


Entry = TypeVar("Entry", ImageEntry, AnnotationEntry, CategoryEntry)


class Content(NamedTuple):
    """The lists of a file, None where it has no such list; ``no_objects`` counts entries that had to be left out."""

    images: list[ImageEntry]
    annotations: list[AnnotationEntry] | None
    categories: list[CategoryEntry] | None
    description: str
    no_objects: int


def parse(path: Path) -> Content:
    """The entries of a COCO file.

    Raises:
        InputError: it can't be read, is not JSON, or has no list of images.
    """
    with paused_collection():
        parts = _parts(path, _read(path))
        skipped = 0
        lists: list[Any] = []
        for key, kind in (("images", ImageEntry), ("annotations", AnnotationEntry), ("categories", CategoryEntry)):
            entries, others = _entries(parts[key], kind) if key in parts else (None, 0)
            lists.append(entries)
            skipped += others
        images, annotations, categories = lists
        if images is None:
            raise InputError(f"{path}: {_what_it_is(list(parts))}")
        info = parts.get("info")
        described = _plain(info) if info is not None else None
        description = described.get("description") if isinstance(described, dict) else None
        return Content(images, annotations, categories, str(description or ""), skipped)


def _read(path: Path) -> bytes:
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation file; correct the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct the path or the permissions") from error
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: is UTF-16 text; save it as UTF-8")
    text = text.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise InputError(f"{path}: is empty; write or download it again")
    if b"NaN" in text or b"Infinity" in text:
        return NOT_JSON.sub(rb"\1null", text)
    return text


def _parts(path: Path, text: bytes) -> dict[str, Any]:
    """The values of the outermost object, as JSON that is still to be read."""
    try:
        return msgspec.json.decode(text, type=dict[str, Raw])
    except ValueError as error:
        if len(text) > LARGE:
            raise InputError(f"{path}: not JSON, or cut short ({error}); write or download it again") from None
    try:
        content = json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON, or cut short ({error}); write or download it again") from None
    if isinstance(content, list):
        raise InputError(f"{path}: {_what_a_list_is(content)}")
    if not isinstance(content, dict):
        raise InputError(f'{path}: not a COCO detection file: it has no list "images"; give another file')
    return content


def _what_a_list_is(content: list[Any]) -> str:
    first = content[0] if content and isinstance(content[0], dict) else {}
    if "score" in first and "bbox" in first:
        return "is a list of detections (COCO results), not annotations; give the annotation file it was made for"
    if "image" in first and "annotations" in first:
        return "is a CreateML file, not COCO; export the annotations as COCO JSON"
    return (
        'is a list, not a COCO detection file, which is an object with the lists "images", "annotations" and '
        '"categories"; give another file'
    )


def _what_it_is(keys: list[str]) -> str:
    if "shapes" in keys:
        return "is a LabelMe file of one image, not COCO; export the annotations as COCO JSON"
    if "_via_img_metadata" in keys:
        return "is a VIA project, not COCO; export the annotations as COCO JSON"
    found = ", ".join(f'"{key[:40]}"' for key in keys[:5])
    return (
        'not a COCO detection file: it has no list "images"'
        + (f", but {found}" if found else "")
        + "; give another file"
    )


def _entries(part: Any, kind: type[Entry]) -> tuple[list[Entry] | None, int]:
    """Entries of a list, and how many of it are no objects; None where it is no list."""
    if isinstance(part, Raw):
        try:
            return msgspec.json.decode(part, type=list[kind]), 0
        except ValueError:
            pass
        try:
            part = msgspec.json.decode(part, type=list[Raw])
        except ValueError:
            return None, 0
    if not isinstance(part, list):
        return None, 0
    entries = [_entry(one, kind) for one in part]
    objects = [entry for entry in entries if entry is not None]
    return objects, len(entries) - len(objects)


def _entry(part: Any, kind: type[Entry]) -> Entry | None:
    """An entry, or None where it is no object; Python reads what is too much for msgspec, such as 1e999."""
    if isinstance(part, Raw):
        try:
            return msgspec.json.decode(part, type=kind)
        except ValueError:
            pass
    content = _plain(part)
    if not isinstance(content, dict):
        return None
    return kind(**{name: content[name] for name in kind.__struct_fields__ if name in content})


def _plain(part: Any) -> Any:
    return json.loads(bytes(part)) if isinstance(part, Raw) else part
