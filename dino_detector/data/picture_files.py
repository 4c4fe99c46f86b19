"""Which files of a folder are pictures, and what those raise that are none."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

from dino_detector.errors import InputError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""files of a folder that are taken for pictures, upper or lower case"""
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""what Pillow raises for a file that is missing, damaged or no image"""


def find_pictures(path: Path) -> list[Path]:
    """The picture itself, or the pictures directly in a folder, by name; other files are left out.

    Raises:
        InputError: where there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such picture or folder; correct the path")
    pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not pictures:
        raise InputError(f"{path}: holds no pictures ({', '.join(EXTENSIONS)})")
    return pictures
