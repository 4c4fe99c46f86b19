"""Opens picture files, also with damaged metadata, and explains why one can't be read."""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from dino_detector.data.pictures.finding import HEIF
from dino_detector.errors import InputError
from dino_detector.storage.files import RESOURCES

SEVERAL_FRAMES = ("GIF", "PNG", "TIFF", "WEBP", "AVIF")
"""formats whose further frames are pictures; in JPEGs of phones they are previews"""
QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height"""
MOST_THREADS = 16
PNG = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
"""chunks that the pixels depend on: https://www.w3.org/TR/png-3/#11Chunks"""
JPEG = b"\xff\xd8"
JPEG_DROPPED = (*range(0xE1, 0xEE), 0xEF, 0xFE)
"""application segments except APP0 and APP14, which describe the colour space, and comments"""
START_OF_SCAN = 0xDA
"""markers of JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf"""
TIFF = {b"II*\0": "<", b"MM\0*": ">"}
"""first bytes of TIFF files, and their byte order"""
TIFF_KEPT = {*range(254, 260), *(262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 297), *range(317, 326)}
TIFF_KEPT |= {*range(330, 350), *range(512, 522), *range(529, 533)}
"""tags that the pixels and the orientation depend on: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf"""

# Pillow warns above MAX_IMAGE_PIXELS and raises an error above its double, which `allow_megapixels` sets.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def allow_megapixels(limit: float) -> None:
    """Make Pillow refuse pictures above a limit in megapixels."""
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
        pixels, limit = (int(number) / 1e6 for number in re.findall(r"\d+", str(error)))
        raise InputError(
            f"{path}: has {pixels:,.6g} megapixels, more than the {limit:,.6g} of --max_megapixels, which guards "
            f"against files that fill the memory; give --max_megapixels {int(pixels) + 1}"
        ) from error
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


@contextmanager
def opened(
    path: Path | str, *, prepare: Callable[[Image.Image], Any] = lambda image: None, decode: bool = True
) -> Iterator[Image.Image]:
    """Open a picture, without its metadata if they are damaged; raise `InputError` if it can't be read.

    Args:
        path: the file.
        prepare: called between reading the header and the pixels, for example to read a JPEG at a fraction of its size.
        decode: read the pixels too, not only the header.
    """

    def attempt(file: Path | str | BytesIO) -> Image.Image:
        image = stack.enter_context(Image.open(file))
        prepare(image)
        if decode:
            image.load()
        return image

    with reading(path), ExitStack() as stack:
        try:
            image = attempt(path)
        except (FileNotFoundError, Image.DecompressionBombError):
            raise
        except Exception:  # any exception of a decoder
            plain = without_metadata(Path(path).read_bytes())
            if plain is None:
                raise
            image = attempt(BytesIO(plain))
        yield image


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, as stored, if it is missing or the metadata are damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # metadata hold no pixels
        return 1
    return value if value in range(1, 9) else 1


def image_size(path: Path | str) -> tuple[int, int]:
    """Return the height and width in pixels of a picture as displayed; raise `InputError` if it can't be read."""
    with opened(path, decode=False) as image:
        turned = orientation(image) in QUARTER_TURNS
        return (image.width, image.height) if turned else (image.height, image.width)


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


def without_metadata(content: bytes) -> bytes | None:
    """Return a PNG, JPEG or TIFF file without text, EXIF, colour profile and comments; None if that is impossible.

    PNG and JPEG files lose the EXIF orientation, so their pictures are not turned. TIFF files keep the orientation.
    """
    if content.startswith(PNG):
        return _plain_png(content)
    if content[:4] in TIFF:
        return _plain_tiff(content, TIFF[content[:4]])
    return _plain_jpeg(content) if content.startswith(JPEG) else None


def _plain_png(content: bytes) -> bytes:
    kept, position = [PNG], len(PNG)
    while position + 12 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        if content[position + 4 : position + 8] in PNG_KEPT:
            kept.append(content[position:end])
        position = end
    return b"".join(kept)


def _plain_jpeg(content: bytes) -> bytes | None:
    kept, position = [JPEG], len(JPEG)
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == START_OF_SCAN:
            return b"".join([*kept, content[position:]])
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        if marker not in JPEG_DROPPED:
            kept.append(content[position:end])
        position = end
    return None


def _plain_tiff(content: bytes, order: str) -> bytes | None:
    """Shorten the directory of the first picture in place, and end the list of pictures there."""
    try:
        (directory,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, directory)
    except struct.error:
        return None
    start = directory + 2
    entries = [content[start + 12 * number : start + 12 * number + 12] for number in range(count)]
    kept = [entry for entry in entries if len(entry) == 12 and struct.unpack(f"{order}H", entry[:2])[0] in TIFF_KEPT]
    shorter = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return content[:directory] + shorter + content[directory + len(shorter) :]
