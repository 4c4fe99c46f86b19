"""Files of detections in COCO's results format, and the lists of their images."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.entries import WHOLE_NUMBERS
from dino_detector.data.coco.unlabelled import DETECTED_INFO, find_image_info
from dino_detector.errors import InputError
from dino_detector.plain_text import quoted
from dino_detector.storage.files import paused_collection, read_json


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read and check a file in COCO's results format; raise `InputError` for the first invalid row."""
    rows = _read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: not in COCO's results format, which is a list of detections; give another file")
    names: dict[int, str | None] = {}
    for position, row in enumerate(rows):
        if problem := _problem(row):
            raise InputError(f"{path}: entry {position} {problem}")
        image_id, name = row["image_id"], row.get("file_name")
        if names.setdefault(image_id, name) != name:
            before = f"but entries before it of image {image_id} have {names[image_id]!r}"
            raise InputError(f'{path}: entry {position} has "file_name" {name!r}, {before}; give each file its own id')
    return rows


def find_image_list(results: Path, folder: Path | None) -> CocoAnnotations | None:
    """Read the list of images beside a results file or beside a folder of images; return None if there is none."""
    beside = results.with_name(DETECTED_INFO)
    path = beside if beside.is_file() else None if folder is None else find_image_info(folder)
    return None if path is None else read_images(path, folder=folder)


def read_images(path: Path, *, folder: Path | None = None) -> CocoAnnotations:
    """Read the images, categories and annotations, if any, of a COCO file; raise `InputError` if it is invalid.

    With ``folder``, the names of the images are the names of their files there.
    """
    with paused_collection():
        content = _read_json(path)
        if isinstance(content, dict) and not content.get("annotations"):
            content = {"categories": [], **content, "annotations": []}
        annotations = CocoAnnotations.parse(content, path, images=folder)
    return annotations if folder is None else annotations.with_files(folder, required=False)


def file_inside(folder: Path, name: str) -> Path | None:
    """Return the file with this name below the folder; None if it is absent or the name leads out of the folder."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    try:
        return folder / relative if (folder / relative).is_file() else None
    except OSError:  # a name longer than files may have
        return None


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); correct the file or the path") from error


def _problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "is not an object; give image_id, category_id, bbox and score"
    for name in ("image_id", "category_id"):
        if type(row.get(name)) is not int or row[name] not in WHOLE_NUMBERS:
            return f'has "{name}" {quoted(row.get(name))}; give a whole number'
    score, bbox = row.get("score"), row.get("bbox")
    if type(score) not in (int, float) or not 0 <= score <= 1:
        return f'has "score" {quoted(score)}; give a number from 0 to 1'
    numbers = isinstance(bbox, list) and all(type(side) in (int, float) and abs(side) < 1e9 for side in bbox)
    if not numbers or len(bbox) != 4 or min(bbox[2:]) < 0:
        return f'has "bbox" {quoted(bbox)}; give [x, y, width, height] in pixels'
    if not isinstance(row.get("file_name", ""), str):
        return f'has "file_name" {quoted(row["file_name"])}; give the name of a file in the folder of the images'
    return None
