"""A folder of results: one program of a kind writes to it at a time, and what an earlier one wrote is not lost."""

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
from dino_detector.files import DISK_FULL, remove_temporary_files, write_error

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, purpose: str, *, flag: str = "--output_dir") -> Iterator[None]:
    """Hold a folder for one purpose, and make it if it is missing.

    The operating system gives the lock back when the program ends, however it ends. Temporary files of killed programs
    are removed. A folder that was made here is removed again if it is still empty at the end.

    Args:
        folder: the folder to write to.
        purpose: what is done there in one word, such as ``training``; each purpose has a lock of its own.
        flag: the flag that names the folder, for the message.

    Raises:
        InputError: another program holds the folder, which the message names with its start; or the folder can't be
            made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock, holder = folder / f".{purpose}.lock", folder / f".{purpose}.json"
    with contextlib.ExitStack() as leaving:
        leaving.callback(_remove_empty, made)
        with _needed(folder, flag):
            folder.mkdir(parents=True, exist_ok=True)
            hold = FileLock(lock, timeout=0)
            try:
                hold.acquire()
            except Timeout:
                raise InputError(
                    f"{folder}: another {purpose} writes there ({_described(holder)}); wait for it, or give another "
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
        Path(hold.lock_file).unlink()  # who waits for it sees that it is gone, and makes a new one
    hold.release()


def _remove_empty(folders: Sequence[Path]) -> None:
    with contextlib.suppress(OSError):  # something was written
        for folder in folders:
            folder.rmdir()


def _described(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {facts['process']} on {facts['machine']}, started {facts['started']}"
    except (OSError, ValueError, KeyError):  # it has just begun or ended
        return "a process that has just started"


def make_output_dir(folder: Path, *, flag: str = "--output_dir") -> None:
    """Make the folder that a flag names; raises `InputError` where it can't be made or written to."""
    with _needed(folder, flag):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()


@contextmanager
def _needed(folder: Path, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise write_error(folder, error) from error
        raise InputError(f"{folder}: can't be written to ({error.strerror}); give another {flag}") from error


def make_room(folder: Path, names: Sequence[str]) -> None:
    """Move aside what an earlier program wrote to a folder by these names, of which some are patterns."""
    move_aside([file for name in names for file in folder.glob(name)], folder)


def move_aside(files: Sequence[Path], folder: Path) -> None:
    """Move files of a folder to a subfolder that is named by the time of the newest; paths below the folder stay."""
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
