"""Checksums of files: of COCO's archives, or of a mirror's, as ``sha256sum`` and ``md5sum`` print them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dino_detector.download.progress import Progress
from dino_detector.errors import InputError

ALGORITHMS = {32: "md5", 64: "sha256"}
"""by the number of hexadecimal digits"""
CHUNK = 1 << 20


class Checksum(NamedTuple):
    """A checksum in hexadecimal digits, lower case; their number tells MD5 from SHA-256."""

    digits: str

    def matches(self, path: Path) -> bool:
        """Read a file and compare."""
        digest = hashlib.new(ALGORITHMS[len(self.digits)], usedforsecurity=False)
        with path.open("rb") as file, Progress(f"checking {path.stem}", total=path.stat().st_size) as progress:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                progress.advance(len(chunk))
        return digest.hexdigest() == self.digits


def read_checksums(path: Path) -> dict[str, Checksum]:
    """Checksums by file name, from lines such as ``4f7e...  zips/val2017.zip``.

    Empty lines and those that begin with # are passed over; a ``*`` or ``./`` before a name is left off.

    Raises:
        InputError: the file can't be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of checksums; correct --coco_checksums") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); correct --coco_checksums") from error
    found: dict[str, Checksum] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]+)\s+\*?(?:\./)*(\S.*?)\s*", line)
        if not match or len(match[1]) not in ALGORITHMS:
            raise InputError(
                f"{path}: line {number} is not a checksum and a file, as sha256sum or md5sum prints them: 64 or 32 "
                "hexadecimal digits, two spaces and the file, such as zips/val2017.zip"
            )
        checksum = Checksum(match[1].lower())
        if found.setdefault(match[2], checksum) != checksum:
            raise InputError(f"{path}: line {number} gives {match[2]} a second checksum; remove the wrong one")
    return found


def checksum_of(name: str, checksums: dict[str, Checksum], listing: Path) -> Checksum:
    """The checksum of ``name``, such as ``zips/val2017.zip``; listed by this path, or else by its last part.

    Raises:
        InputError: the listing has none, or several that differ.
    """
    if name in checksums:
        return checksums[name]
    file = PurePosixPath(name).name
    by_file = {checksum for listed, checksum in checksums.items() if PurePosixPath(listed).name == file}
    if len(by_file) != 1:
        problem = "lists several checksums" if by_file else "lists no checksum"
        raise InputError(f"{listing}: {problem} for {name}; add a line for it: the checksum, two spaces and {name}")
    return by_file.pop()
