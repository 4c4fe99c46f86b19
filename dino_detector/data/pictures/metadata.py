"""Removes metadata from PNG, JPEG and TIFF files whose metadata Pillow refuses as damaged or too large."""

from __future__ import annotations

import struct

PNG = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
"""chunks that the pixels depend on: https://www.w3.org/TR/png-3/#11Chunks"""
JPEG = b"\xff\xd8"
APP1, APP13, APP15, COMMENT = 0xE1, 0xED, 0xEF, 0xFE
START_OF_SCAN = 0xDA
"""markers of JPEG, https://www.w3.org/Graphics/JPEG/itu-t81.pdf; APP0 and APP14 describe the colour space"""
TIFF = {b"II*\0": "<", b"MM\0*": ">"}
"""first bytes of TIFF files, and their byte order"""
TIFF_KEPT = {*range(254, 260), *(262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 297), *range(317, 326)}
TIFF_KEPT |= {*range(330, 350), *range(512, 522), *range(529, 533)}
"""tags that the pixels and the orientation depend on: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf"""


def without_metadata(content: bytes) -> bytes | None:
    """Return a picture file without text, EXIF, colour profile and comments.

    PNG and JPEG files lose the EXIF orientation, so their pictures are not turned. TIFF files keep the orientation.

    Returns:
        The bytes of the file; None for other formats and files with a damaged structure.
    """
    if content.startswith(PNG):
        return _plain_png(content)
    if content[:4] in TIFF:
        return _plain_tiff(content, TIFF[content[:4]])
    return _plain_jpeg(content) if content.startswith(JPEG) else None


def _plain_png(content: bytes) -> bytes | None:
    kept, position = [PNG], len(PNG)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, end = content[position + 4 : position + 8], position + 12 + length
        if kind in PNG_KEPT:
            kept.append(content[position:end])
        if kind == b"IEND":
            return b"".join(kept)
        position = end
    return b"".join(kept) if len(kept) > 1 else None


def _plain_jpeg(content: bytes) -> bytes | None:
    kept, position = [JPEG], len(JPEG)
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == START_OF_SCAN:
            return b"".join([*kept, content[position:]])
        (length,) = struct.unpack_from(">H", content, position + 2)
        end = position + 2 + length
        if not (APP1 <= marker <= APP13 or marker in (APP15, COMMENT)):
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
