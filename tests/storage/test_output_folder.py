"""One program at a time writes to a folder, and never overwrites files of an earlier program."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dino_detector.errors import InputError
from dino_detector.storage.output_folder import locked, move_aside

HOLDS = """
import sys, time
from pathlib import Path
from dino_detector.storage.output_folder import locked
with locked(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path / "out"], stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout.readline() == "held\n"
        yield held
        held.kill()


def test_a_second_program_is_refused_with_the_first_ones_process_and_start(holder, tmp_path: Path) -> None:
    wanted = rf"out: another training writes there \(process {holder.pid} on .+, started \d{{4}}-\d\d-\d\d .*\); wait"
    with pytest.raises(InputError, match=wanted), locked(tmp_path / "out", "training"):
        pytest.fail("held twice")
    with locked(tmp_path / "out", "evaluation"):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_is_gone_holds_nothing(holder, number: int, tmp_path: Path) -> None:
    holder.send_signal(number)
    holder.wait(timeout=20)
    with locked(tmp_path / "out", "training"):
        pass


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no"), locked(tmp_path / "a" / "b", "training"):
        raise InputError("no")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b", "training"):
        (tmp_path / "a" / "b" / "result").touch()
    assert (tmp_path / "a" / "b" / "result").exists()


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "inside"
    with pytest.raises(InputError, match=f"{inside}: .*give another --output_dir"), locked(inside, "training"):
        pytest.fail("made")


def test_files_that_move_aside_keep_their_subfolders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/a.png"):
        (tmp_path / name).write_text(name)
    move_aside([tmp_path / "a.png", tmp_path / "sub" / "a.png"], tmp_path)
    (aside,) = tmp_path.glob("earlier_*")
    assert {path.relative_to(aside).as_posix(): path.read_text() for path in aside.rglob("*") if path.is_file()} == {
        "a.png": "a.png",
        "sub/a.png": "sub/a.png",
    }


def test_temporary_files_of_programs_that_are_gone_are_removed(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    here = platform.node()
    kept = [f".writing-{os.getpid()}-0-{here}.tmp", f".writing-{child}-0-another-{here}.tmp"]
    old = f".writing-{os.getpid()}-1-{here}.tmp"
    for name in (*kept, old, f".writing-{child}-0-{here}.tmp", ".writing-foo.tmp"):
        (tmp_path / name).touch()
    for name in (old, ".writing-foo.tmp"):
        os.utime(tmp_path / name, (0, 0))
    with locked(tmp_path, "training"):
        assert sorted(path.name for path in tmp_path.glob(".writing*")) == sorted(kept)
