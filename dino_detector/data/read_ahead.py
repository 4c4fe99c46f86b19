"""A large annotation file is read by another process while this one imports what training needs.

Both take several seconds of one core for COCO.
"""

from __future__ import annotations

import signal
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

from dino_detector.data.coco import CocoAnnotations

LARGE = 2**25
"""bytes from which on another process is worth it"""


class ReadAhead:
    """Begins to read annotation files, and hands them out.

    Example:
        >>> with ReadAhead() as annotations:  # doctest: +SKIP
        ...     annotations.begin(Path("instances_train2017.json"))
        ...     import lightning
        ...     train = annotations.read(Path("instances_train2017.json"))
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._begun: dict[Path, Future[CocoAnnotations]] = {}

    def begin(self, path: Path) -> None:
        """Begin with a file, if it is there and large; before libraries have started threads, which a fork lacks."""
        if sys.platform != "linux" or not path.is_file() or path.stat().st_size < LARGE:
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("fork"), initializer=_leave_interrupts)
        self._begun[path] = self._pool.submit(CocoAnnotations.read, path)

    def read(self, path: Path) -> CocoAnnotations:
        """As `CocoAnnotations.read`, which has perhaps begun."""
        begun = self._begun.pop(path, None)
        if begun is None:
            return CocoAnnotations.read(path)
        try:
            return begun.result()
        except BrokenProcessPool:  # it was killed, perhaps for its memory
            return CocoAnnotations.read(path)
        finally:
            if not self._begun:
                self._end()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _leave_interrupts() -> None:
    """A terminal sends Ctrl-C to this process too; the other one ends both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
