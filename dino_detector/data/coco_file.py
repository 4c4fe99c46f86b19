"""A COCO detection file from bytes to typed entries; of one that is malformed, which entry is and how to mend it.

The format: https://cocodataset.org/#format-data. msgspec builds nothing but what a detector needs: polygons, most of a
file of COCO's size, are skipped. A file that it refuses is read again with Python's own reader, slowly, to tell what is
wrong with it, or to accept what Python's JSON allows beyond the standard, such as NaN.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dino_detector.errors import InputError
from dino_detector.files import paused_collection

WHOLE_NUMBERS = range(-(2**63), 2**63)
"""what an id or a number of pixels can be"""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Id = Annotated[int, Meta(ge=WHOLE_NUMBERS[0], le=WHOLE_NUMBERS[-1])]
Pixels = Annotated[int, Meta(ge=1, le=WHOLE_NUMBERS[-1])]


class ImageEntry(Struct, gc=False):
    """An entry of ``images``; sides in pixels."""

    id: Id
    file_name: Annotated[str, Meta(min_length=1)]
    height: Pixels
    width: Pixels


class AnnotationEntry(Struct, gc=False):
    """An entry of ``annotations``; ``bbox`` is x, y, width and height in pixels."""

    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    id: Id | UnsetType = UNSET
    iscrowd: Literal[0, 1] = 0
    area: float | None = None

    def named(self, position: int) -> str:
        """What to call the annotation, the one at a position of the file, in messages."""
        return f'entry {position} of "annotations"' if self.id is UNSET else f"annotation {self.id}"


class CategoryEntry(Struct, gc=False):
    """An entry of ``categories``."""

    id: Id
    name: str


class CocoFile(Struct, gc=False):
    """The lists of a file, each entry well-formed by itself."""

    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry]
    info: Any = None

    @property
    def description(self) -> str | None:
        """What the file says of itself."""
        return self.info.get("description") if isinstance(self.info, dict) else None


def read_coco_file(path: Path) -> CocoFile:
    """Read a file.

    Raises:
        InputError: it is missing, not JSON or not COCO, or an entry is malformed; names the file and the first.
    """
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        _fail(path, "no such annotation file; correct the path")
    except OSError as error:
        _fail(path, f"cannot be read ({error.strerror}); correct the path or the permissions")
    contents = contents.removeprefix(BYTE_ORDER_MARK)
    with paused_collection():
        try:
            return msgspec.json.decode(contents, type=CocoFile)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                content = json.loads(contents)
            except ValueError as error:
                _fail(path, f"not JSON, or cut short ({error}); write or download it again")
            return coco_file(content, path)


def coco_file(content: Any, path: Path) -> CocoFile:
    """The entries of JSON that has been parsed; raises `InputError` as `read_coco_file`, with ``path`` in messages."""
    return _Reader(path).file(content)


class _Reader:
    """Checks entry by entry; every failure names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, content: Any) -> CocoFile:
        wanted = ("images", "annotations", "categories")
        absent = [key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), list)]
        if absent:
            self.fail(
                f'not a COCO detection file: it has no list "{absent[0]}"; it needs the lists {", ".join(wanted)}'
            )
        return CocoFile(
            images=[self.image(position, entry) for position, entry in enumerate(content["images"])],
            annotations=[self.annotation(position, entry) for position, entry in enumerate(content["annotations"])],
            categories=[self.category(position, entry) for position, entry in enumerate(content["categories"])],
            info=content.get("info"),
        )

    def image(self, position: int, entry: Any) -> ImageEntry:
        self.check_object(entry, f'entry {position} of "images"')
        self.check_ids(entry, ("id",), f'entry {position} of "images"')
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            self.fail(f'image {entry["id"]} has no "file_name"; add it')
        for side in ("height", "width"):
            if not is_whole(entry.get(side)) or entry[side] < 1:
                self.fail(f'image {entry["id"]} has "{side}" {entry.get(side)!r}; give its pixels as a whole number')
        return ImageEntry(entry["id"], name, entry["height"], entry["width"])

    def category(self, position: int, entry: Any) -> CategoryEntry:
        self.check_object(entry, f'entry {position} of "categories"')
        self.check_ids(entry, ("id",), f'entry {position} of "categories"')
        if not isinstance(entry.get("name"), str):
            self.fail(f'category {entry["id"]} has no "name"; add it')
        return CategoryEntry(entry["id"], entry["name"])

    def annotation(self, position: int, entry: Any) -> AnnotationEntry:
        name = f'entry {position} of "annotations"'
        self.check_object(entry, name)
        if "id" in entry:
            self.check_ids(entry, ("id",), name)
            name = f"annotation {entry['id']}"
        self.check_ids(entry, ("image_id", "category_id"), name)
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
            self.fail(f'{name} has "bbox" {box!r}; give four numbers, [x, y, width, height] in pixels')
        if entry.get("iscrowd", 0) not in (0, 1):
            self.fail(f'{name} has "iscrowd" {entry["iscrowd"]!r}; it is 0 or 1')
        area = entry.get("area")
        if area is not None and not is_number(area):
            self.fail(f'{name} has "area" {area!r}; give a number of pixels, or leave it out')
        return AnnotationEntry(
            entry["image_id"], entry["category_id"], tuple(box), entry.get("id", UNSET), entry.get("iscrowd", 0), area
        )

    def check_object(self, entry: Any, name: str) -> None:
        if not isinstance(entry, dict):
            self.fail(f"{name} is not an object; this is not a COCO detection file")

    def check_ids(self, entry: dict[str, Any], keys: tuple[str, ...], name: str) -> None:
        for key in keys:
            if not is_whole(entry.get(key)):
                self.fail(f'{name} has "{key}" {entry.get(key)!r}; give a whole number of 64 bits')

    def fail(self, problem: str) -> NoReturn:
        _fail(self.path, problem)


def is_whole(value: Any) -> bool:
    """True for a JSON integer of 64 bits; false for ``true`` and ``1.0``."""
    return type(value) is int and value in WHOLE_NUMBERS


def is_number(value: Any) -> bool:
    """True for a JSON number that a float can hold, finite or not; false for ``true``."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)


def _fail(path: Path, problem: str) -> NoReturn:
    raise InputError(f"{path}: {problem}") from None
