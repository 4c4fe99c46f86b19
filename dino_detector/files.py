"""Files: text that is there whole or not at all, and JSON of hundreds of megabytes."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Write text beside ``path`` and move it there, so that nobody reads half of it; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file, which may begin with a byte order mark.

    Raises:
        OSError: it can't be read.
        ValueError: it is not JSON, or not UTF-8.
    """
    with paused_collection():
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))


@contextmanager
def paused_collection() -> Iterator[None]:
    """No garbage collection: it would look at millions of new objects again and again, and triple the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
