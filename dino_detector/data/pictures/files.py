"""Finds and opens picture files, and explains why one can't be read."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from dino_detector.data.pictures.metadata import without_metadata
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed
from dino_detector.storage.files import RESOURCES, writing

WRITABLE = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""extensions under which a drawn picture keeps its name"""
NO_PHOTOGRAPHS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""formats that Pillow recognises, but reads with other programs or not at all"""
HEIF = {".heic", ".heif", ".hif"}
LITTER = ("._", ".DS_Store", "Thumbs.db", "desktop.ini")
"""first characters of names of files that macOS and Windows leave in folders and archives"""
SEVERAL_FRAMES = ("GIF", "PNG", "TIFF", "WEBP", "AVIF")
"""formats whose further frames are pictures; in JPEGs of phones they are previews"""
QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height"""
MOST_THREADS = 16

# Pillow warns above MAX_IMAGE_PIXELS and raises an error above twice as many. `allow_megapixels` sets the error.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


T = TypeVar("T")


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
        parts = [f"{counted(self.nested, 'picture')} in subfolders"] if self.nested else []
        if self.left_out:
            what = counted(len(self.left_out), "file that is no picture", "files that are no pictures")
            parts.append(f"{what} ({listed(self.left_out)})")
        if self.results:
            parts.append(f"the results of earlier calls in {listed(self.results)}")
        return f"{folder}: left out {' and '.join(parts)}" if parts else ""


def find_pictures(path: Path, *, recursive: bool = False, results: str = "") -> PictureFolder:
    """Find the pictures of a folder by what Pillow reads; a single file is returned unchecked.

    Args:
        path: a file, or a folder.
        recursive: search subfolders too.
        results: name of a file that marks a subfolder as results of an earlier call; marked subfolders are left out.

    Raises:
        InputError: there is no picture.
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
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    known = Image.registered_extensions()
    return frozenset(
        {extension for extension, name in known.items() if name in Image.OPEN and name not in NO_PHOTOGRAPHS} | HEIF
    )


def save_picture(picture: Image.Image, path: Path, *, quality: int = 75) -> None:
    """Write a picture in the format of the extension; ``quality`` is for JPEG and WebP.

    Raises:
        WriteError: the file can't be written; no partial file remains.
    """
    picture_extensions()  # loads Pillow's formats
    kind = Image.registered_extensions()[path.suffix.lower()]
    with writing(path, sync=False) as file:
        picture.save(file, format=kind, **({"quality": quality} if kind in ("JPEG", "WEBP") else {}))


def allow_megapixels(limit: float) -> None:
    """Make Pillow refuse pictures above a limit in megapixels, which is twice its `MAX_IMAGE_PIXELS`.

    Raises:
        InputError: the limit is not above 0.
    """
    if not limit > 0:
        raise InputError(f"--max_megapixels must be above 0, not {limit}")
    Image.MAX_IMAGE_PIXELS = round(limit * 1e6 / 2)


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn any exception of a decoder into an `InputError` that names the file, the reason and the remedy."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise InputError(f"{path}: no such image file; correct the path") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {_too_large(error)}") from error
    except Exception as error:  # AVIF raises RuntimeError, DDS NotImplementedError, ...
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in RESOURCES:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its message only repeats the path
            is_empty = Path(path).is_file() and not Path(path).stat().st_size
            reason = "it is empty" if is_empty else "it is damaged, or of a format that Pillow does not know"
        remedy = "replace the file"
        if isinstance(error, OSError) and error.errno is not None:  # from the system, not from a decoder
            remedy = "correct its permissions" if isinstance(error, PermissionError) else "check the disk"
        if Path(path).suffix.lower() in HEIF and find_spec("pillow_heif") is None:
            remedy = "pip install pillow-heif, which reads HEIC, or convert the file"
        raise InputError(f"{path}: cannot be read as an image ({reason[:200]}); {remedy}") from error


def _too_large(error: Image.DecompressionBombError) -> str:
    """Return Pillow's message about a picture above the limit, in megapixels and with the flag of the limit."""
    numbers = [int(number) for number in re.findall(r"\d+", str(error))]
    if len(numbers) != 2:
        return f"{error}; give a larger --max_megapixels"
    pixels, limit = numbers
    has, allowed = (f"{number / 1e6:,.0f}" if number >= 1e7 else f"{number / 1e6:.3g}" for number in (pixels, limit))
    return (
        f"has {has} megapixels, more than the {allowed} of --max_megapixels, which guards against "
        f"files that fill the memory; give --max_megapixels {pixels // 1_000_000 + 1}"
    )


@contextmanager
def opened(path: Path | str, *, prepare: Callable[[Image.Image], Any] = lambda image: None) -> Iterator[Image.Image]:
    """Open and decode a picture, without its metadata if they are damaged.

    Args:
        path: the file.
        prepare: called between reading the header and the pixels, for example to read a JPEG at a fraction of its size.

    Raises:
        InputError: the file is missing or can't be decoded.
    """

    def prepared(file: Path | str | BytesIO) -> Image.Image:
        image = Image.open(file)
        try:
            prepare(image)
            image.load()
        except BaseException:
            image.close()
            raise
        return image

    with reading(path), _with_or_without_metadata(path, prepared) as image:
        yield image


def _with_or_without_metadata(path: Path | str, use: Callable[[Path | str | BytesIO], T]) -> T:
    """Call ``use`` with a file; if this fails, try again without its metadata."""
    try:
        return use(path)
    except (FileNotFoundError, Image.DecompressionBombError):
        raise
    except Exception:  # any exception of a decoder
        plain = without_metadata(Path(path).read_bytes())
        if plain is None:
            raise
        return use(BytesIO(plain))


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, as stored, if it is missing or the metadata are damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # metadata hold no pixels
        return 1
    return value if value in range(1, 9) else 1


def image_size(path: Path | str) -> tuple[int, int]:
    """Return the height and width in pixels of a picture as displayed, from the header of its file.

    Raises:
        InputError: the file is missing or is not an image.
    """

    def displayed_size(file: Path | str | BytesIO) -> tuple[int, int]:
        with Image.open(file) as image:
            turned = orientation(image) in QUARTER_TURNS
            return (image.width, image.height) if turned else (image.height, image.width)

    with reading(path):
        return _with_or_without_metadata(path, displayed_size)


def picture_sizes(paths: Sequence[Path | None]) -> np.ndarray:
    """Return the width and height ``[N, 2]`` float64 of pictures as displayed, NaN if one can't be read."""

    def size(path: Path | None) -> tuple[float, float]:
        try:
            return (np.nan, np.nan) if path is None else image_size(path)[::-1]
        except InputError:
            return np.nan, np.nan

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        return np.array([*pool.map(size, paths)], np.float64).reshape(-1, 2)


def has_several_frames(path: Path) -> bool:
    """Return whether a file holds several pictures; False if it can't be read."""
    try:
        with Image.open(path) as image:
            return number_of_frames(image) > 1
    except Exception:  # its reader reports the error
        return False


def number_of_frames(image: Image.Image) -> int:
    """Return the number of frames or pages of a picture; 1 if only the first can be read."""
    try:
        return getattr(image, "n_frames", 1) if image.format in SEVERAL_FRAMES else 1
    except Exception:  # the first frame can be read all the same
        return 1
