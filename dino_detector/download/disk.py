"""Room on a disk, and what the user hears when a file can't be written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dino_detector.errors import InputError
from dino_detector.storage.files import DISK_FULL


def require_space(folder: Path, needed: int, purpose: str, *, remedy: str = "choose another --data_dir") -> None:
    """Raise `InputError` unless the disk of a folder has ``needed`` bytes free."""
    free = _free(folder)
    if needed > free:
        raise InputError(
            f"{folder}: {purpose} needs {as_size(needed)} ({needed:,} bytes) on this disk, which has {as_size(free)} "
            f"({free:,} bytes) free; make room or {remedy}"
        )


@contextmanager
def written(path: Path, needed: int) -> Iterator[None]:
    """Turn what goes wrong with a file or folder into an `InputError`; ``needed`` is the bytes still to write."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            free = _free(path)
            raise InputError(
                f"{path}: the disk is full ({error.strerror}): {as_size(needed)} ({needed:,} bytes) are needed and "
                f"{as_size(free)} ({free:,} bytes) are free; make room and run again (what has arrived is kept)"
            ) from error
        raise InputError(f"{path}: cannot be written ({error.strerror}); correct --data_dir or its rights") from error


def _free(path: Path) -> int:
    """Bytes free on the disk where a path is, or would be."""
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free


def as_size(count: float) -> str:
    """Bytes as a person reads them, in powers of 1000: ``815.6 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.1f} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.1f} GB"
