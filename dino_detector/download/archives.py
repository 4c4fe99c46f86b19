"""Zip archives of strangers, unpacked so that nothing leaves the folder and nothing is half there."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dino_detector.download.disk import as_size, require_space, written
from dino_detector.download.progress import Progress
from dino_detector.download.safe_names import safe_name
from dino_detector.errors import InputError

CHUNK = 1 << 20
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
MOST_EXPANSION = 200
HARMLESS = 1_000_000_000
"""an archive may unpack to so many bytes, or to `MOST_EXPANSION` times its own size where that is more"""


class ArchiveError(InputError):
    """The archive is not what it should be, and will stay so."""


class Member(NamedTuple):
    """A file of an archive, and its path below the folder it is unpacked to."""

    info: zipfile.ZipInfo
    path: PurePosixPath


def unpack(archive: Path, target: Path, *, inside: str, only: Collection[str] | None = None) -> None:
    """Unpack a folder of a zip archive.

    Everything is unpacked and checked in a hidden folder first, and then moved: the folder as a whole, or file by file
    where ``target`` is there already. What the archive does not hold stays as it is.

    Args:
        archive: the zip archive.
        target: what the folder becomes; a link to a folder is followed.
        inside: the folder's name in the archive, such as ``val2017``.
        only: names of the files that are wanted; None takes all.

    Raises:
        ArchiveError: it is broken, lacks a wanted file or has any entry that leads elsewhere, is a link, is there twice
            or is not of its declared size.
        InputError: the disk is full, or the folder can't be written.
    """
    if not target.is_dir() and (target.exists() or target.is_symlink()):
        raise InputError(f"{target}: is in the way, for it must be a folder; move it away or mend the link")
    beside = target / ".unpacking" if target.is_dir() else target.with_name(f".{target.name}.unpacking")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in _members(opened, archive, inside) if only is None or str(member[1]) in only]
            absent = set(only or ()) - {str(member.path) for member in members}
            if absent or not members:
                raise _error(archive, f"holds no {inside}/{min(absent, default='')}")
            total = sum(member.info.file_size for member in members)
            with written(beside, total):
                shutil.rmtree(beside, ignore_errors=True)
                beside.mkdir(parents=True)
            require_space(beside, total, f"unpacking {archive.name}")
            _write(opened, members, beside, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise _error(archive, f"is not a whole zip archive ({error})") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    with written(target, 0):
        _move(beside, target)


def _error(archive: Path, problem: str) -> ArchiveError:
    return ArchiveError(f"{archive}: {problem}; use an archive from elsewhere (--coco_url)")


def _members(opened: zipfile.ZipFile, archive: Path, inside: str) -> list[Member]:
    """The files below ``inside``, once every entry of the archive has been looked at."""
    infos = opened.infolist()
    seen: set[str] = set()
    members = []
    for info in infos:
        try:
            path = safe_name(info.orig_filename)
        except ValueError as error:
            raise _error(archive, f"entry {error}") from None
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _error(archive, f"entry {info.filename!r} is a link or a device")
        if str(path).casefold() in seen:
            raise _error(archive, f"entry {info.filename!r} is there twice")
        seen.add(str(path).casefold())
        if info.compress_type not in METHODS or info.flag_bits & 1:
            raise _error(archive, f"entry {info.filename!r} is encrypted or not deflated")
        if not info.is_dir() and path.parts[0] == inside and len(path.parts) > 1:
            members.append(Member(info, PurePosixPath(*path.parts[1:])))
    size = archive.stat().st_size
    total = sum(info.file_size for info in infos)
    if sum(info.compress_size for info in infos) > size or total > max(HARMLESS, MOST_EXPANSION * size):
        raise _error(archive, f"would unpack from {as_size(size)} to {as_size(total)}")
    return members


def _write(opened: zipfile.ZipFile, members: list[Member], folder: Path, total: int) -> None:
    left = total
    with Progress(f"unpacking {Path(opened.filename).stem}", total=total) as progress:
        for info, path in members:
            destination = folder / path
            with written(destination, left):
                destination.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, destination.open("xb") as file:
                    size = 0
                    # zipfile stops at the declared size, and compares the checksum there.
                    while chunk := source.read(CHUNK):
                        file.write(chunk)
                        size += len(chunk)
                        progress.advance(len(chunk))
            if size != info.file_size:
                raise zipfile.BadZipFile(f"{info.filename} has {size} bytes and declares {info.file_size}")
            left -= size


def _move(source: Path, target: Path) -> None:
    """Move what is in ``source`` to ``target``, and remove ``source``."""
    if not target.is_dir():
        source.rename(target)
        return
    for path in sorted(source.rglob("*")):
        destination = target / path.relative_to(source)
        if path.is_dir():
            destination.mkdir(exist_ok=True)
        else:
            path.replace(destination)
    shutil.rmtree(source)
