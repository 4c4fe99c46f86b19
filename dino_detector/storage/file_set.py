"""Writes several files of a folder that appear together or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from dino_detector.storage.files import explained_writing, sync_to_disk

UNFINISHED = ".unfinished"
"""subfolder of the files that are being written"""
FINISHED = ".finished"
"""subfolder of committed files until they are moved to their places"""
MANIFEST = ".manifest.json"
"""file of the set with the names of the file to move first and of the files to remove"""


class FileSet:
    """Files that are written to a subfolder and committed by renaming the subfolder.

    Before the rename no file of the set counts; after it every file does. If the program is killed after the rename,
    `recover` moves the files to their places, the file ``first`` before the others. The context manager commits the set
    at its end; an exception discards it.

    Example:
        >>> with FileSet(Path("outputs"), first="last.pth") as files:
        ...     _ = files.path("last.pth").write_bytes(b"...")
        ...     files.link("best.pth", files.path("last.pth"))
    """

    def __init__(self, folder: Path, *, first: str) -> None:
        self.folder = folder
        self._unfinished = folder / UNFINISHED
        self._manifest: dict[str, Any] = {"first": first, "remove": []}

    def path(self, name: str) -> Path:
        """Return the path to write the file to that will be ``folder / name``."""
        return self._unfinished / name

    def link(self, name: str, source: Path) -> None:
        """Add an existing file by a hard link, or by a copy where the file system has no hard links."""
        try:
            os.link(source, self.path(name))
        except OSError:
            shutil.copyfile(source, self.path(name))

    def remove(self, *names: str) -> None:
        """Remove these files of the folder when the set is committed."""
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
                    sync_to_disk(path)
                sync_to_disk(self._unfinished)
                self._unfinished.rename(self.folder / FINISHED)
            except BaseException:
                shutil.rmtree(self._unfinished, ignore_errors=True)
                raise
            sync_to_disk(self.folder)
            _move_into_place(self.folder)


def committed(path: Path) -> Path:
    """Return the location of a file: ``path``, or a committed set that a killed program has not moved into place."""
    finished = path.parent / FINISHED
    waiting = finished / path.name
    return waiting if (finished / MANIFEST).is_file() and waiting.is_file() else path


def recover(folder: Path) -> None:
    """Complete a set that a killed program committed in a folder, and remove a set that it did not commit.

    Hold the folder's lock while calling it.

    Raises:
        WriteError: a file can't be moved or removed.
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
    if manifest.is_file():  # removed last, so a call that was interrupted can be repeated
        order = json.loads(manifest.read_text(encoding="utf-8"))
        for path in sorted(finished.iterdir(), key=lambda path: path.name != order["first"]):
            if path != manifest:
                path.replace(folder / path.name)
        for name in order["remove"]:
            (folder / name).unlink(missing_ok=True)
        manifest.unlink()
    finished.rmdir()
    sync_to_disk(folder)
