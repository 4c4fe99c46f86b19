"""Several files of a folder that appear together or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

from dino_detector.files import DISK_FULL, explained_writing, sync_folder

UNFINISHED, FINISHED = ".unfinished", ".finished"
"""subfolders of the files that are being written, and of complete ones that have not all taken their place yet"""
MANIFEST = ".manifest.json"
"""file in the set that tells which files to remove, and which to move first"""


class FileSet:
    """Files that are written into a subfolder and committed by one rename of it.

    Before the rename none of the files counts, and after it all of them do: `recover` puts those into their place that
    a killed program left in the subfolder. As a context manager it commits at the end, and an exception discards it.

    Example:
        >>> with FileSet(Path("outputs"), first="last.pth") as files:  # doctest: +SKIP
        ...     files.path("last.pth").write_bytes(b"...")
        ...     files.link("best.pth", files.path("last.pth"))

    Args:
        folder: where the files go; it exists.
        first: the file that takes its place before the others.
    """

    def __init__(self, folder: Path, *, first: str) -> None:
        self.folder = folder
        self._unfinished = folder / UNFINISHED
        self._manifest: dict[str, Any] = {"first": first, "remove": []}

    def path(self, name: str) -> Path:
        """Where to write the file that will be ``folder / name``."""
        return self._unfinished / name

    def link(self, name: str, source: Path) -> None:
        """Add a file that exists already, by a hard link where the file system has them and else by a copy."""
        try:
            os.link(source, self.path(name))
        except OSError:
            shutil.copyfile(source, self.path(name))

    def remove(self, *names: str) -> None:
        """Remove files of the folder together with the commit."""
        self._manifest["remove"] += names

    def __enter__(self) -> FileSet:
        with explained_writing(self.folder):
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            return
        with explained_writing(self.folder):
            try:
                self.path(MANIFEST).write_text(json.dumps(self._manifest), encoding="utf-8")
                for path in self._unfinished.iterdir():
                    _sync(path)
                sync_folder(self._unfinished)
                self._unfinished.rename(self.folder / FINISHED)
            except BaseException:
                shutil.rmtree(self._unfinished, ignore_errors=True)
                raise
            sync_folder(self.folder)
            _move_into_place(self.folder)


def committed(path: Path) -> Path:
    """Where a file is: in its place, or in a committed set that a killed program has not moved there yet."""
    waiting = path.parent / FINISHED / path.name
    return waiting if (path.parent / FINISHED / MANIFEST).is_file() and waiting.is_file() else path


def recover(folder: Path) -> None:
    """Finish what a killed program began in a folder: complete a committed set, and remove one that was not committed.

    Call it with the folder's lock held.
    """
    if not folder.is_dir():
        return
    with explained_writing(folder):
        if (folder / FINISHED).is_dir():
            _move_into_place(folder)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _move_into_place(folder: Path) -> None:
    """Move the files of a committed set to their names; can be interrupted and called again."""
    finished = folder / FINISHED
    manifest = finished / MANIFEST
    if manifest.is_file():  # it goes last
        told = json.loads(manifest.read_text(encoding="utf-8"))
        for path in sorted(finished.iterdir(), key=lambda path: path.name != told["first"]):
            if path != manifest:
                path.replace(folder / path.name)
        for name in told["remove"]:
            (folder / name).unlink(missing_ok=True)
        manifest.unlink()
    finished.rmdir()
    sync_folder(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # Windows and some network file systems can't
        if error.errno in DISK_FULL | {errno.EIO}:
            raise
    finally:
        os.close(descriptor)
