"""The files of a set appear together or not at all, even if the program is killed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killed_commits import NEW, OLD, commit, contents, write_old

from dino_detector.errors import InputError
from dino_detector.storage.file_set import FileSet


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the files that a kill before each operation leaves, before and after recovery."""
    if not hasattr(os, "fork"):
        pytest.skip("kills forks of a process")
    words = [sys.executable, Path(__file__).with_name("killed_commits.py"), tmp_path_factory.mktemp("killed")]
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)


def test_all_files_are_old_or_all_are_new_whenever_it_is_killed(killed: list[dict[str, Any]]) -> None:
    recovered = [kill["recovered"] for kill in killed]
    assert len(killed) > 10
    assert recovered[0] == OLD
    assert recovered[-1] == NEW
    assert all(files in (OLD, NEW) for files in recovered)


def test_a_commit_that_is_not_killed_leaves_the_new_files(tmp_path: Path) -> None:
    commit(write_old(tmp_path / "a"))
    assert contents(tmp_path / "a") == NEW


def test_the_first_file_moves_first_so_that_who_finds_it_knows_of_the_rest(killed: list[dict[str, Any]]) -> None:
    """Until all files have moved, the checkpoint for resuming is either the old one or the new one."""
    for kill in killed:
        there = {name: text for name, text in kill["left"].items() if text is not None}
        assert there["last"] == "2" or there == OLD


def test_a_recovery_that_is_killed_too_is_finished_by_the_next(killed: list[dict[str, Any]]) -> None:
    for kill in killed:
        assert len(kill["again"]) > 10
        assert all(files in (OLD, NEW) for files in kill["again"])


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
