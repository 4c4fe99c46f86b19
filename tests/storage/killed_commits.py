"""Kill commits of a `FileSet` before each of their operations, and print the files that are left.

A script of its own, because a fork of a process that has imported torch takes 50 ms.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

from dino_detector.storage.file_set import FileSet, recover

OLD = {"last": "1", "best": "1", "epoch_1": "1"}
NEW = {"last": "2", "best": "2", "epoch_2": "2"}
"""the commit of epoch 2 replaces two files of epoch 1 and removes the third"""


def write_old(folder: Path) -> Path:
    folder.mkdir()
    for name, text in OLD.items():
        (folder / name).write_text(text)
    return folder


def commit(folder: Path) -> None:
    recover(folder)
    with FileSet(folder, first="last") as files:
        files.path("last").write_text("2")
        files.link("best", files.path("last"))
        files.link("epoch_2", files.path("last"))
        files.remove("epoch_1")


def contents(folder: Path) -> dict[str, str | None]:
    """Return the texts of files by their names; None for a folder."""
    return {path.name: path.read_text() if path.is_file() else None for path in folder.iterdir()}


def killed_before(operation: int, folder: Path) -> bool:
    """Commit in a fork that is killed before its n-th change of the folder; return False if it makes fewer."""
    child = os.fork()
    if child == 0:
        done = count(1)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            writes = event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")
            if event == "open":
                writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            inside = any(str(argument).startswith(str(folder)) for argument in arguments[:2])
            if writes and inside and next(done) == operation:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        commit(folder)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def left_after_all(folder: Path) -> list[dict[str, Any]]:
    """Return for each operation the files after a kill, after recovery, and after kills of the recovery too."""
    found = []
    for operation in count(1):
        once, twice = (write_old(folder / f"{operation}_{name}") for name in ("once", "twice"))
        if not killed_before(operation, once):
            return found
        left = contents(once)
        recover(once)
        killed_before(operation, twice)
        again = []
        for other in count(1):
            if not killed_before(other, twice):
                break
            recover(twice)
            again.append(contents(twice))
        found.append({"left": left, "recovered": contents(once), "again": again})


if __name__ == "__main__":
    print(json.dumps(left_after_all(Path(sys.argv[1]))))
