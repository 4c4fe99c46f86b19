"""The files of a set appear together or not at all, even if the program is killed."""

from __future__ import annotations

import errno
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dino_detector.errors import InputError
from dino_detector.storage.file_set import FileSet, recover

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")

OLD = {"last": "1", "best": "1", "epoch_1": "1"}
NEW = {"last": "2", "best": "2", "epoch_2": "2"}
"""the commit of epoch 2 replaces two files of epoch 1 and removes the third"""


def write_old(folder: Path) -> None:
    folder.mkdir()
    for name, text in OLD.items():
        (folder / name).write_text(text)


def commit(folder: Path) -> None:
    recover(folder)
    with FileSet(folder, first="last") as files:
        files.path("last").write_text("2")
        files.link("best", files.path("last"))
        files.link("epoch_2", files.path("last"))
        files.remove("epoch_1")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


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


def test_all_files_are_old_or_all_are_new_whenever_it_is_killed(tmp_path: Path) -> None:
    seen = set()
    for operation in count(1):
        folder = tmp_path / str(operation)
        write_old(folder)
        if not killed_before(operation, folder):
            break
        recover(folder)
        found = contents(folder)
        assert found in (OLD, NEW), operation
        seen.add(found == NEW)
    assert operation > 10
    assert seen == {False, True}
    assert contents(folder) == NEW


def test_the_first_file_moves_first_so_that_who_finds_it_knows_of_the_rest(tmp_path: Path) -> None:
    """Until all files have moved, the checkpoint for resuming is either the old one or the new one."""
    for operation in count(1):
        folder = tmp_path / str(operation)
        write_old(folder)
        if not killed_before(operation, folder):
            break
        there = contents_of_files(folder)
        assert there["last"] == "2" or there == OLD


def contents_of_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_a_recovery_that_is_killed_too_is_finished_by_the_next(tmp_path: Path) -> None:
    for operation in count(8):
        folder = tmp_path / str(operation)
        write_old(folder)
        if not killed_before(operation, folder):
            break
        for again in count(1):
            if not killed_before(again, folder):
                break
            recover(folder)
            assert contents(folder) in (OLD, NEW)


def test_an_exception_discards_the_set(tmp_path: Path) -> None:
    write_old(tmp_path / "a")

    def fail() -> None:
        with FileSet(tmp_path / "a", first="last") as files:
            files.path("last").write_text("2")
            raise InputError("something")

    with pytest.raises(InputError):
        fail()
    assert contents(tmp_path / "a") == OLD


def test_a_disk_that_fills_up_discards_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_old(tmp_path / "a")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"), FileSet(tmp_path / "a", first="last") as files:
        files.path("last").write_text("2")
    assert contents(tmp_path / "a") == OLD
    assert not (tmp_path / "a" / ".unfinished").exists()
