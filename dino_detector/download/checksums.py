"""SHA-256 checksums of archives, in the format of ``sha256sum``."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from dino_detector.errors import InputError


def read_checksums(path: Path) -> dict[str, str]:
    """Return checksums by file name, from lines such as ``4f7e...  zips/val2017.zip``.

    Empty lines and lines that begin with # are skipped, and so is a ``*`` or ``./`` before a name.

    Raises:
        InputError: the file can't be read, or a line is malformed or contradicts another.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the checksums cannot be read ({reason}); correct --coco_checksums") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)*(\S.*?)\s*", line)
        if not match:
            raise InputError(
                f"{path}: line {number} is not a checksum and a file, as sha256sum prints them; give 64 hexadecimal "
                "digits, two spaces and a file such as zips/val2017.zip"
            )
        checksum, name = match[1].lower(), match[2]
        if found.setdefault(name, checksum) != checksum:
            raise InputError(f"{path}: line {number} gives {name} a second checksum; remove the wrong one")
    return found


def checksum_of(name: str, listing: Path) -> str:
    """Return the checksum that a file lists for ``zips/val2017.zip``, or else for a ``val2017.zip`` elsewhere.

    Raises:
        InputError: the file lists none or several, or can't be read.
    """
    checksums = read_checksums(listing)
    file = PurePosixPath(name).name
    elsewhere = {checksum for listed, checksum in checksums.items() if PurePosixPath(listed).name == file}
    candidates = {checksums[name]} if name in checksums else elsewhere
    if len(candidates) != 1:
        problem = "lists several checksums" if candidates else "lists no checksum"
        raise InputError(f"{listing}: {problem} for {name}; add a line with the checksum, two spaces and {name}")
    return candidates.pop()
