"""PNG and JPEG files without their metadata, for pictures whose metadata are damaged or larger than Pillow allows."""

from __future__ import annotations

import struct

PNG = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
"""chunks that pixels depend on: https://www.w3.org/TR/png-3/#11Chunks"""
JPEG = b"\xff\xd8"
APP1, APP13, APP15, COMMENT = 0xE1, 0xED, 0xEF, 0xFE
START_OF_SCAN = 0xDA
"""markers of JPEG, https://www.w3.org/Graphics/JPEG/itu-t81.pdf; APP0 and APP14 say how colours are stored"""


def without_metadata(content: bytes) -> bytes | None:
    """Return the file without text, EXIF, colour profiles and comments; None for other formats and damaged structure.

    The EXIF orientation is lost with the rest, so the picture is as it is stored.
    """
    if content.startswith(PNG):
        return _plain_png(content)
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
