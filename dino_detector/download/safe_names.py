"""File names from archives and annotations, which must not lead out of their folder."""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def safe_name(name: str) -> PurePosixPath:
    r"""Return a name as a path that stays below any folder it is joined to.

    Raises:
        ValueError: it is empty or absolute, or has a part such as ``..``, a drive letter, a backslash or a control
            character.
    """
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\x00-\x1f]", name):
        raise ValueError(f"{name!r} is no plain path below a folder")
    return PurePosixPath(*parts)
