"""Reads CreateML: a JSON list of images, whose boxes have a centre and a size in pixels.

The format: https://developer.apple.com/documentation/createml/building-an-object-detector-data-source
"""

from __future__ import annotations

import math
from pathlib import Path

from dino_detector.data.formats.rows import Reading, Rows
from dino_detector.data.formats.splits import AnnotationFile, files_of, name_sources
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError
from dino_detector.storage.files import read_json


def find_createml(folder: Path) -> list[AnnotationFile]:
    """Return the files of a folder and its subfolders."""
    return name_sources([*files_of("CreateML", folder, "*.json", "*/*.json")], folder, "CreateML")


def read_createml(source: AnnotationFile) -> Reading:
    """Read a file; raise `InputError` if an entry is wrong, naming its image.

    The format has no sizes: they are read from the pictures beside the file.
    """
    path, content, rows = source.path, read_json(source.path), Rows(unit="annotation")
    names = [str(entry.get("image") or entry.get("imagefilename")) for entry in content if isinstance(entry, dict)]
    places = [path.parent / name for name in names]
    sizes = picture_sizes([place if place.is_file() else None for place in places])
    known = dict(zip(names, sizes.tolist(), strict=True))
    for entry in content:
        try:
            name = entry.get("image") or entry["imagefilename"]
            width, height = known[name]
            rows.image(name, **({} if math.isnan(width) else {"width": int(width), "height": int(height)}))
            for number, item in enumerate(entry.get("annotations") or entry.get("annotation") or (), start=1):
                x, y, width, height = (float(item["coordinates"][key]) for key in ("x", "y", "width", "height"))
                edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                rows.box(str(item["label"]), edges, (f"{path}, image {name}", number))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            name = entry.get("image") if isinstance(entry, dict) else entry
            raise InputError(f"{path}: the entry of image {str(name)[:80]!r} is wrong ({error}); correct it") from error
    return rows.reading()
