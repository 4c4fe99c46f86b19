"""Reads CreateML: a JSON list of images, whose boxes have a centre and a size in pixels.

The format: https://developer.apple.com/documentation/createml/building-an-object-detector-data-source
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dino_detector.data.coco.entries import Content
from dino_detector.data.formats.rows import Rows
from dino_detector.data.pictures.opening import picture_sizes
from dino_detector.errors import InputError


def read_createml(content: list[Any], path: Path) -> Content:
    """Read the parsed content of a file; raise `InputError` if an entry is wrong, naming its image.

    The format has no sizes: they are read from the pictures beside the file.
    """
    rows = Rows()
    names = [str(entry.get("image") or entry.get("imagefilename")) for entry in content if isinstance(entry, dict)]
    places = [path.parent / name for name in names]
    sizes = picture_sizes([place if place.is_file() else None for place in places])
    known = dict(zip(names, sizes.tolist(), strict=True))
    for entry in content:
        try:
            name = entry.get("image") or entry["imagefilename"]
            width, height = known[name]
            rows.image(name, **({} if math.isnan(width) else {"width": int(width), "height": int(height)}))
            for item in entry.get("annotations") or entry.get("annotation") or ():
                x, y, width, height = (float(item["coordinates"][key]) for key in ("x", "y", "width", "height"))
                rows.box(str(item["label"]), x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            name = entry.get("image") if isinstance(entry, dict) else entry
            raise InputError(f"{path}: the entry of image {str(name)[:80]!r} is wrong ({error}); correct it") from error
    return rows.content()
