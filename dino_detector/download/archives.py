"""Zip archives, unpacked so that no entry leaves the folder and no file is left incomplete."""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from dino_detector.download.disk import as_size, require_space
from dino_detector.download.progress import progress
from dino_detector.errors import InputError
from dino_detector.storage.files import explained_writing

MAX_EXPANSION = 200
HARMLESS = 1_000_000_000
"""an archive may unpack to this number of bytes, or to `MAX_EXPANSION` times its own size if that is more"""


class ArchiveError(InputError):
    """An archive is damaged, malicious or incomplete."""


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


def unpack(archive: Path, target: Path, *, inside: str, only: Collection[str] = ()) -> None:
    """Unpack the folder ``inside`` of a zip archive, or the files of ``only`` in that folder, to a target folder.

    The files are unpacked and checked in a hidden folder. Then the hidden folder becomes the target or, if the target
    exists, each file is moved there. Other files of the target stay.

    Raises:
        ArchiveError: the archive is damaged or lacks a file of ``only``; or an entry leads elsewhere, is a link, is
            there twice, or has another size than it declares.
        InputError: the disk is full, or the target can't be written.
    """
    if not target.is_dir() and (target.exists() or target.is_symlink()):
        raise InputError(f"{target}: is in the way of a folder; move it away or correct the link")
    staging = target / ".unpacking" if target.is_dir() else target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)  # a killed process may have left it
    try:
        with zipfile.ZipFile(archive) as opened, explained_writing(staging):
            members = _checked_members(opened, archive, inside)
            wanted = set(only or members)
            absent = wanted - members.keys()
            if absent or not wanted:
                raise _error(archive, f"holds no {inside}/{min(absent, default='')}")
            members = {name: members[name] for name in sorted(wanted)}
            total = sum(info.file_size for info in members.values())
            require_space(staging, total, f"unpacking {archive.stem}")
            with progress(f"unpacking {archive.stem}", total=total) as bar:
                for info in members.values():
                    size = Path(opened.extract(info, staging)).stat().st_size
                    if size != info.file_size:  # zipfile accepts a deflated file that is shorter than declared
                        raise zipfile.BadZipFile(f"{info.filename} has {size} bytes and declares {info.file_size}")
                    bar.update(size)
        with explained_writing(target):
            if target.is_dir():
                shutil.copytree(staging / inside, target, copy_function=os.replace, dirs_exist_ok=True)
            else:
                (staging / inside).rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise _error(archive, f"is not a whole zip archive ({error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _error(archive: Path, problem: str) -> ArchiveError:
    return ArchiveError(f"{archive}: {problem}; use an archive from elsewhere (--coco_url)")


def _checked_members(opened: zipfile.ZipFile, archive: Path, inside: str) -> dict[str, zipfile.ZipInfo]:
    """Check every entry of an archive, and return the files below ``inside`` by their path there."""
    members = {}
    seen: set[str] = set()
    for info in opened.infolist():
        try:
            path = safe_name(info.orig_filename)
        except ValueError as error:
            raise _error(archive, f"entry {error}") from None
        if str(path).casefold() in seen:
            raise _error(archive, f"entry {info.filename!r} is there twice")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _error(archive, f"entry {info.filename!r} is a link or a device")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _error(archive, f"entry {info.filename!r} is neither stored nor deflated")
        seen.add(str(path).casefold())
        if not info.is_dir() and PurePosixPath(inside) in path.parents:
            members[str(path.relative_to(inside))] = info
    size, total = archive.stat().st_size, sum(info.file_size for info in opened.infolist())
    if total > max(HARMLESS, MAX_EXPANSION * size):
        raise _error(archive, f"would unpack from {as_size(size)} to {as_size(total)}")
    return members
