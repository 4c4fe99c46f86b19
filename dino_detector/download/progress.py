"""Progress of long work on files: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

from dino_detector.download.disk import as_size

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows how much is done, how fast, and how much time is left.

    Args:
        title: what is done, such as ``fetching val2017.zip``.
        total: how much there is to do, where that is known.
        done: how much is done already, which does not count for the speed.
        unit: ``B`` for bytes, or a word.
    """

    def __init__(self, title: str, *, total: int | None, done: int = 0, unit: str = "B") -> None:
        self.title = title
        self.terminal = sys.stderr.isatty()
        # A terminal inside another program may have no size, and tqdm would show nothing there.
        sized = self.terminal and 0 not in os.get_terminal_size(sys.stderr.fileno())
        self.unit = unit
        self.bar = tqdm(
            desc=title,
            total=total,
            initial=done,
            unit="B" if unit == "B" else f" {unit}",
            unit_scale=unit == "B",
            dynamic_ncols=sized,
            ncols=None if sized else 80,
            nrows=None if sized else 24,
            disable=not self.terminal,
        )
        self.started_at = self.done = done
        self.total = total
        self.begun = self.last_line = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def expect(self, total: int | None) -> None:
        """The total has become known."""
        self.total = self.bar.total = total

    def advance(self, count: int = 1) -> None:
        """So much more is done."""
        self.move_to(self.done + count)

    def move_to(self, done: int) -> None:
        """So much is done in all; less than before where work has to be done again."""
        if done < self.done:
            self.started_at, self.begun = done, time.monotonic()
            self.bar.n = done
            self.bar.refresh()
        else:
            self.bar.update(done - self.done)
        self.done = done
        if not self.terminal and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self._log_line()

    def _log_line(self) -> None:
        speed = (self.done - self.started_at) / max(time.monotonic() - self.begun, 1)
        parts = [self._amount(self.done), f"{self._amount(speed)}/s"]
        if self.total:
            parts[0] = f"{self.done / self.total:.0%} of {self._amount(self.total)}"
            if speed > 0:
                parts.append(f"{tqdm.format_interval((self.total - self.done) / speed)} left")
        log.info("%s: %s", self.title, ", ".join(parts))

    def _amount(self, count: float) -> str:
        return as_size(count) if self.unit == "B" else f"{count:,.0f} {self.unit}"
