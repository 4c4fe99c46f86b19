"""Finds pictures in folders, and knows which files are pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed
from dino_detector.storage.files import writing

if find_spec("pillow_heif") is not None:  # every reader of pictures imports this module
    import pillow_heif

    pillow_heif.register_heif_opener()

WRITABLE = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""extensions under which a drawn picture keeps its name"""
NO_PHOTOGRAPHS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""formats that Pillow recognises, but reads with other programs or not at all"""
HEIF = {".heic", ".heif", ".hif"}
LITTER = ("._", ".DS_Store", "Thumbs.db", "desktop.ini")
"""first characters of names of files that macOS and Windows leave in folders and archives"""


class PictureFolder(NamedTuple):
    """The pictures of a folder, and the files that were left out.

    Attributes:
        pictures: files by name, subfolders last.
        left_out: paths of files that are not pictures, relative to the folder.
        nested: number of pictures in subfolders that are not among ``pictures``.
        results: subfolders that were skipped because they hold results of an earlier call.
    """

    pictures: list[Path]
    left_out: list[str]
    nested: int
    results: list[str]

    def left_out_line(self, folder: Path) -> str:
        """Return one line about the files that were left out; empty if there are none."""
        files = counted(len(self.left_out), "file that is no picture", "files that are no pictures")
        parts = {
            f"{counted(self.nested, 'picture')} in subfolders": self.nested,
            f"{files} ({listed(self.left_out)})": self.left_out,
            f"the results of earlier calls in {listed(self.results)}": self.results,
        }
        found = " and ".join(text for text, present in parts.items() if present)
        return found and f"{folder}: left out {found}"


def find_pictures(path: Path, *, recursive: bool = False, results: str = "") -> PictureFolder:
    """Find the pictures of a folder, and of its subfolders if ``recursive``; raise `InputError` if there are none.

    A single file is returned unchecked. Subfolders that contain a file named ``results`` are left out.
    """
    if path.is_file():
        return PictureFolder([path], [], 0, [])
    if not path.is_dir():
        raise InputError(f"{path}: no such picture or folder; correct the path")
    pictures, left_out, nested, passed = [], [], 0, []
    for folder, folders, files in os.walk(path):
        inside = recursive or Path(folder) == path
        if results in files and Path(folder) != path:
            passed.append(Path(folder).relative_to(path).as_posix())
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(folder, name) for name in sorted(files)):
            if not is_picture(file):
                left_out += [file.relative_to(path).as_posix()] if inside else []
            elif inside:
                pictures.append(file)
            else:
                nested += 1
    if not pictures:
        hint = f", but {nested:,} in subfolders; give --recursive" if nested else " of a format that Pillow reads"
        raise InputError(f"{path}: holds no pictures{hint}")
    return PictureFolder(pictures, left_out, nested, passed)


def evenly_spaced(files: Sequence[Any], most: int) -> Sequence[Any]:
    """Return at most ``most`` of the files, in equal steps over all of them."""
    return files[:: max(1, -(-len(files) // most))]


def is_picture(file: Path) -> bool:
    """Return whether a file has a picture's extension or content; False for files that macOS and Windows leave."""
    if file.name.startswith(LITTER) or not file.is_file():
        return False
    if file.suffix.lower() in picture_extensions():
        return True
    try:
        with Image.open(file) as image:
            return image.format not in NO_PHOTOGRAPHS
    except Exception:  # any exception of a decoder
        return False


@lru_cache(maxsize=1)
def picture_extensions() -> frozenset[str]:
    """Return the extensions of HEIF and of all formats that Pillow reads, in lower case with the dot."""
    readable = Image.registered_extensions().items()
    return frozenset(HEIF.union(end for end, name in readable if name in Image.OPEN and name not in NO_PHOTOGRAPHS))


def save_picture(picture: Image.Image, path: Path, *, quality: int = 75) -> None:
    """Write a picture in the format of the extension, or raise `WriteError`; ``quality`` is for JPEG and WebP."""
    picture_extensions()  # loads Pillow's formats
    kind = Image.registered_extensions()[path.suffix.lower()]
    with writing(path, sync=False) as file:
        picture.save(file, format=kind, **({"quality": quality} if kind in ("JPEG", "WEBP") else {}))
