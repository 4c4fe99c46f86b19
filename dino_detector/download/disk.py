"""Free space on a disk, and sizes for people."""

from __future__ import annotations

import shutil
from pathlib import Path

from dino_detector.errors import InputError


def require_space(folder: Path, needed: int, purpose: str, *, remedy: str = "choose another --data_dir") -> None:
    """Raise `InputError` unless ``needed`` bytes are free on the disk of a folder, which may not exist yet."""
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if needed > free:
        raise InputError(
            f"{folder}: {purpose} needs {as_size(needed)} ({needed:,} bytes) on this disk, which has {as_size(free)} "
            f"({free:,} bytes) free; make room or {remedy}"
        )


def as_size(count: float) -> str:
    """Return a number of bytes in powers of 1000, such as ``815.6 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.1f} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.1f} GB"
