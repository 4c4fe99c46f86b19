"""Progress of long work: a bar on a terminal, elsewhere a log line every 30 seconds."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


def progress(title: str, *, total: int | None, done: int = 0, unit: str = "B") -> tqdm:
    """Return a progress bar with speed and time left; a context manager.

    ``total`` is None if it is unknown, and ``unit`` is B for bytes or a plural.
    """
    shape: dict[str, Any] = {"dynamic_ncols": True}
    if not sys.stderr.isatty():
        every = SECONDS_BETWEEN_LINES
        shape = {"file": _LogLines(), "ncols": 0, "mininterval": every, "delay": every, "leave": False}
    elif 0 in os.get_terminal_size(sys.stderr.fileno()):  # a pseudo-terminal may have no size, and tqdm shows nothing
        shape = {"ncols": 80, "nrows": 24}
    shape |= {"unit": "B", "unit_scale": True} if unit == "B" else {"unit": f" {unit}"}
    return tqdm(desc=title, total=total, initial=done, **shape)


class _LogLines(io.StringIO):
    """A file that logs each line that tqdm writes to it."""

    def write(self, text: str) -> int:
        if text.strip():
            log.info(text.strip())
        return len(text)
