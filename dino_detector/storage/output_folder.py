"""Locks a folder of results for one program of a kind, and keeps the files of earlier programs."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dino_detector.errors import InputError
from dino_detector.storage.files import DISK_FULL, remove_temporary_files, write_error

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, purpose: str) -> Iterator[None]:
    """Lock the folder of ``--output_dir`` for one purpose such as ``training``, and make the folder if it is missing.

    Each purpose has its own lock. The operating system releases it however the program ends. Temporary files of killed
    programs are removed. A folder that was made here and is empty at the end is removed.

    Raises:
        InputError: another program holds the lock, and the message names its process and start; or the folder can't
            be made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock, holder = FileLock(folder / f".{purpose}.lock"), folder / f".{purpose}.txt"
    try:
        with _explained_access(folder, "--output_dir"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                by = "a process that has just started"
                with contextlib.suppress(OSError):  # or one that has just ended
                    by = holder.read_text(encoding="utf-8") or by
                remedy = "wait for it, or give another --output_dir"
                raise InputError(f"{folder}: another {purpose} writes there ({by}); {remedy}") from None
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            holder.write_text(f"process {os.getpid()} on {platform.node()}, started {started}", encoding="utf-8")
            remove_temporary_files(folder)
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            if lock.is_locked:
                holder.unlink(missing_ok=True)
                Path(lock.lock_file).unlink()  # a program that waits for the lock notices, and makes a new file
        lock.release()
        with contextlib.suppress(OSError):  # something was written
            for path in made:
                path.rmdir()


def make_output_dir(folder: Path, *, flag: str = "--output_dir") -> None:
    """Make the folder that a flag names; raise `InputError` if it can't be made or written to."""
    with _explained_access(folder, flag):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()


@contextmanager
def _explained_access(folder: Path, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise write_error(folder, error) from error
        raise InputError(f"{folder}: can't be written to ({error.strerror}); give another {flag}") from error


def make_room(folder: Path, names: Sequence[str]) -> None:
    """Move aside the files of an earlier program in a folder; ``names`` are file names or glob patterns."""
    move_aside([file for name in names for file in folder.glob(name)], folder)


def move_aside(files: Sequence[Path], folder: Path) -> None:
    """Move files to a subfolder named by the time of the newest file, and keep their paths relative to the folder."""
    if not files:
        return
    newest = max(file.stat().st_mtime for file in files)
    aside = folder / _earlier(newest)
    while aside.exists():
        aside = aside.with_name(f"{aside.name}_")
    for file in files:
        target = aside / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    log.info("moved the files of an earlier run to %s", aside)


def set_aside(folder: Path) -> None:
    """Rename a folder of an earlier program; the new name has the time of its last change."""
    aside = folder.with_name(f"{folder.name}.{_earlier(folder.stat().st_mtime)}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}_")
    folder.rename(aside)
    log.info("moved the data of an earlier run to %s", aside)


def _earlier(seconds: float) -> str:
    return time.strftime("earlier_%Y%m%d-%H%M%S", time.localtime(seconds))
