"""Locks a folder of results for one program of a kind, and keeps the files of earlier programs."""

from __future__ import annotations

import contextlib
import json
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
def locked(folder: Path, purpose: str, *, flag: str = "--output_dir") -> Iterator[None]:
    """Lock a folder for one purpose, and make the folder if it is missing.

    The operating system releases the lock however the program ends. Temporary files of killed programs are removed. A
    folder that was made here and is empty at the end is removed.

    Args:
        folder: the folder to write to.
        purpose: one word such as ``training``; each purpose has its own lock.
        flag: the flag that names the folder, for the message.

    Raises:
        InputError: another program holds the lock, and the message names its process and start; or the folder can't
            be made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock, holder = folder / f".{purpose}.lock", folder / f".{purpose}.json"
    with contextlib.ExitStack() as leaving:
        leaving.callback(_remove_empty, made)
        with _explained_access(folder, flag):
            folder.mkdir(parents=True, exist_ok=True)
            hold = FileLock(lock, timeout=0)
            try:
                hold.acquire()
            except Timeout:
                raise InputError(
                    f"{folder}: another {purpose} writes there ({_holder_text(holder)}); wait for it, or give another "
                    f"{flag}"
                ) from None
            leaving.callback(_give_back, hold, holder)
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            facts = {"process": os.getpid(), "machine": platform.node(), "started": started}
            holder.write_text(json.dumps(facts), encoding="utf-8")
            remove_temporary_files(folder)
        yield


def _give_back(hold: FileLock, holder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows removes no open file
        holder.unlink(missing_ok=True)
        Path(hold.lock_file).unlink()  # a program that waits for the lock notices, and makes a new file
    hold.release()


def _remove_empty(folders: Sequence[Path]) -> None:
    with contextlib.suppress(OSError):  # something was written
        for folder in folders:
            folder.rmdir()


def _holder_text(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {facts['process']} on {facts['machine']}, started {facts['started']}"
    except (OSError, ValueError, KeyError):  # it has just begun or ended
        return "a process that has just started"


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
    aside = folder / time.strftime("earlier_%Y%m%d-%H%M%S", time.localtime(newest))
    while aside.exists():
        aside = aside.with_name(f"{aside.name}_")
    for file in files:
        target = aside / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    log.info("moved the files of an earlier run to %s", aside)
