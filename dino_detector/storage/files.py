"""Writes files that are complete or absent, however the program ends, and reads JSON of hundreds of megabytes."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from dino_detector.errors import InputError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""errors of a full disk, a full quota, and a file above the size limit"""
NOT_WRITABLE = ("EROFS", "EACCES", "EPERM", "ENAMETOOLONG", "ENOTDIR", "EIO", "ESTALE")  # Windows has no ESTALE
FIXABLE_ERRNOS = DISK_FULL | {getattr(errno, name) for name in NOT_WRITABLE if hasattr(errno, name)}
"""errors that the user can fix"""
RESOURCES = {
    errno.ENOMEM: "free some memory, or lower --num_workers",
    errno.EMFILE: "raise the limit with ulimit -n, or lower --num_workers",
    errno.ENFILE: "close other programs, or lower --num_workers",
    errno.EAGAIN: "raise the limit on processes with ulimit -u, or lower --num_workers",
}
"""the remedy for each error of a machine that is out of memory, open files or processes"""
TEMPORARY = ".writing-*.tmp"
"""pattern of the temporary files of `writing`"""
ABANDONED_AFTER_SECONDS = 3600
"""seconds without a change after which a temporary file counts as abandoned"""
COMPRESSED = (
    (b"\x1f\x8b", "compressed by gzip", "gunzip"),
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unxz"),
    (b"BZh", "compressed by bzip2", "bunzip2"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unzstd"),
)
"""first bytes of each compressed format, its description, and the tool that unpacks it"""
_counter = itertools.count()


class WriteError(InputError):
    """A file can't be written; the message names the file, the reason and the remedy."""


def machine_error(error: OSError, path: Path | str, *, done: str = "written") -> InputError | None:
    """Describe in one line an error of the machine that the user can fix; None for any other error."""
    if error.errno in RESOURCES:
        return InputError(f"{error.strerror}; {RESOURCES[error.errno]}")
    return write_error(path, error, done=done) if error.errno in FIXABLE_ERRNOS else None


def write_error(path: Path | str, error: OSError, *, done: str = "written") -> WriteError:
    """Describe in one line why a path can't be read or written, with the remedy."""
    if error.errno in DISK_FULL:
        return WriteError(f"{path}: can't be written, the disk is full ({error.strerror}); make room and run again")
    remedy = "shorten the name" if error.errno == errno.ENAMETOOLONG else "correct the path or its permissions"
    return WriteError(f"{path}: can't be {done} ({error.strerror or error}); {remedy}")


@contextmanager
def explained_writing(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` into a `WriteError` about ``path``, also if `torch.save` has replaced it by a RuntimeError."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise write_error(path, error.__context__) from error
        raise


@contextmanager
def writing(path: Path | str, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name ``path`` only when it is complete.

    The bytes go to a temporary file in the same folder, which is made if it is missing. The temporary file is synced
    to the disk and then renamed, so a power cut leaves the old file or the new one. An exception removes it.

    Args:
        path: the file; an older one is replaced.
        sync: wait until the disk has the bytes; False for files that can be made again, such as pictures.

    Raises:
        WriteError: the file can't be written.
    """
    path = Path(path)
    with explained_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(TEMPORARY.replace("*", f"{os.getpid()}-{next(_counter)}-{platform.node()}"))
        try:
            with temporary.open("wb") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if sync:
            sync_to_disk(path.parent)


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that have ended, and files untouched for an hour."""
    for path in folder.glob(TEMPORARY):
        named = re.fullmatch(r"\.writing-(\d+)-\d+-(.*)\.tmp", path.name)
        is_gone = named is not None and named[2] == platform.node() and not psutil.pid_exists(int(named[1]))
        with contextlib.suppress(OSError):  # another program has removed it
            if is_gone or time.time() - path.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                path.unlink()


def write_whole(path: Path | str, text: str) -> None:
    """Write UTF-8 text with `writing`; lone surrogates, which UTF-8 lacks, are escaped as ``\\udc80``."""
    with writing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def sync_to_disk(path: Path) -> None:
    """Sync a closed file or the names in a folder, if the system can; raise `OSError` if the disk is full or broken."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # Windows opens no folders, and some network file systems sync nothing
        if error.errno in DISK_FULL | {errno.EIO}:
            raise


def read_json(path: Path) -> Any:
    """Read a JSON file, UTF-8 or UTF-16 with its byte order mark; raise `InputError` if it can't be read."""
    try:
        return parse_json(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); correct the file or the path") from error


def parse_json(content: bytes) -> Any:
    """Parse JSON; raise `ValueError` if it is malformed, not UTF-8 or nested too deeply."""
    with paused_collection():
        try:
            return json.loads(as_utf8(content))
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
        except RecursionError:
            raise ValueError("its lists and objects are nested too deeply") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text without blanks at their ends, and without empty lines; raise `InputError`."""
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error


def as_utf8(content: bytes) -> bytes:
    """Return JSON text as UTF-8 without a byte order mark.

    RFC 8259 demands UTF-8, but PowerShell's ``>`` writes UTF-16. Raise `ValueError` for compressed content and for
    damaged UTF-16.
    """
    for magic, name, tool in COMPRESSED:
        if content.startswith(magic):
            raise ValueError(f"{name}; unpack it with {tool} and give the unpacked file")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16").encode("utf-8", "surrogatepass")
    return content.removeprefix(b"\xef\xbb\xbf")


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause garbage collection, which would scan millions of new objects repeatedly and triple the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
