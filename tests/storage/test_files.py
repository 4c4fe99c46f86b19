"""Files are complete or absent, and a failed read or write is a one-line error."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dino_detector.errors import InputError
from dino_detector.storage.files import WriteError, explained_writing, parse_json, read_json, write_whole, writing


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    with writing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names_in(path.parent) == ["a.bin"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def stop() -> None:
        with writing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin"]


def test_a_file_is_synced_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("sync"), sync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append("rename"), replace(path, target))[1])
    write_whole(tmp_path / "a.txt", "text")
    assert done[:2] == ["sync", "rename"]


LIMITED = """
import resource, sys
from dino_detector.commands.frame import run_command
from dino_detector.storage.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
sys.exit(run_command(lambda: write_whole(sys.argv[1], "x" * 50_000)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are not for Windows")
def test_a_full_disk_is_one_line_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    run = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {path}: can't be written, the disk is full")
    assert run.stderr.count("\n") == 1
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 300, "shorten the name"), ("file/inside", "correct the path"), ("folder", "correct the path")],
)
def test_a_name_that_can_not_be_written_is_one_line(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=words) as caught:
        write_whole(tmp_path / name, "text")
    assert name in str(caught.value)


def test_what_a_library_hides_behind_its_own_error_is_found() -> None:
    def fail() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904  as torch's writer does it

    with pytest.raises(WriteError, match=r"a\.pth: can't be written, the disk is full"), explained_writing("a.pth"):
        fail()
    with pytest.raises(RuntimeError, match="other"), explained_writing("a.pth"):
        raise RuntimeError("other")


def test_a_lone_surrogate_does_not_stop_the_writing(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "a\udc80b")
    assert (tmp_path / "a.txt").read_bytes() == b"a\\udc80b"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_in_the_encodings_that_have_a_mark(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps({"é": "猫"}, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a.json") == {"é": "猫"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 50_000, b"\xff", b'"\xe9"', b"9" * 5_000, b"PK\x03\x04", b"\xff\xfea"], ids=repr
)
def test_what_is_no_json_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(content)
    assert not issubclass(ValueError, InputError)
