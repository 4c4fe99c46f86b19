"""A large annotation file is read by another process while this one imports what training needs.

Both take several seconds of one core for COCO.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from dino_detector.data.coco.annotations import CocoAnnotations

LARGE = 2**25
"""bytes from which on another process is worth it"""
SIGNAL_WHEN_PARENT_ENDS = 1
"""number of the option in ``prctl(2)``"""


class ReadAhead:
    """Begins to read annotation files, and hands them out.

    Example:
        >>> with ReadAhead() as annotations:  # doctest: +SKIP
        ...     annotations.begin(Path("instances_train2017.json"))
        ...     import lightning
        ...     train = annotations.read(Path("instances_train2017.json"))
    """

    def __init__(self) -> None:
        self._begun: dict[Path, _Reading] = {}

    def begin(self, path: Path, *, images: Path | None = None) -> None:
        """Begin with a file, if it is there and large; before libraries have started threads, which a fork lacks."""
        if sys.platform != "linux" or not path.is_file() or path.stat().st_size < LARGE:
            return
        forking, state = get_context("fork"), _state(path)
        receiving, sending = forking.Pipe(duplex=False)
        arguments = (path, images, os.getpid(), receiving, sending)
        process = forking.Process(target=_read_and_send, args=arguments, daemon=True)
        process.start()
        sending.close()
        self._begun[path] = _Reading(process, receiving, state)

    def read(self, path: Path, *, images: Path | None = None) -> CocoAnnotations:
        """As `CocoAnnotations.read`, which has perhaps begun; again where the file is another since, as a download."""
        begun = self._begun.pop(path, None)
        if begun is None:
            return CocoAnnotations.read(path, images=images)
        try:
            found = begun.receiving.recv() if path.is_file() and _state(path) == begun.state else None
        except (EOFError, OSError):  # the process was killed, perhaps for its memory, before it answered or meanwhile
            found = None
        finally:
            begun.end()
        if isinstance(found, Exception):
            raise found
        return CocoAnnotations.read(path, images=images) if found is None else found

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._begun:
            self._begun.popitem()[1].end()


class _Reading(NamedTuple):
    """A process that reads a file, the end of the pipe that it answers by, and what the file was when it began."""

    process: BaseProcess
    receiving: Connection
    state: tuple[int, int, int]

    def end(self) -> None:
        """At once, whether it has answered or not."""
        self.process.kill()
        self.process.join()
        self.receiving.close()


def _state(path: Path) -> tuple[int, int, int]:
    """What changes with a file: its size, the time of its last change, its place on the disk."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _read_and_send(path: Path, images: Path | None, parent: int, receiving: Connection, sending: Connection) -> None:
    """The work of the process: send the annotations, or the exception that tells what is wrong with them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to it too; the other one ends both
    ctypes.CDLL(None).prctl(SIGNAL_WHEN_PARENT_ENDS, signal.SIGKILL)
    if os.getppid() != parent:
        return
    receiving.close()
    found: CocoAnnotations | Exception
    try:
        found = CocoAnnotations.read(path, images=images)
    except Exception as error:
        found = error
    with contextlib.suppress(BrokenPipeError):
        sending.send(found)
