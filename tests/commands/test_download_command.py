from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from coco_server import CocoServer, jpeg, status

from dino_detector.commands.download import main

SCRIPT = Path(__file__).parents[2] / "download_coco.py"
IMAGES = "zips/val2017.zip"


@pytest.fixture
def server() -> Iterator[CocoServer]:
    with CocoServer() as server:
        server.add_coco(images=40)
        yield server


@pytest.fixture
def flags(server: CocoServer, tmp_path: Path) -> list[str]:
    sums = server.write_checksums(tmp_path / "sums.txt")
    return ["--data_dir", str(tmp_path / "coco"), "--coco_url", server.url, "--coco_checksums", str(sums)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


MISTAKES = [
    ([], "give at least one of --download_train, --download_val, --download_test; see --help"),
    (["--download_vla"], "unknown flag --download_vla; did you mean --download_val?"),
    (["--download_val", "--coco_url", "ftp://x"], "--coco_url must be an address such as http://host or https://host"),
    (["--download_val", "--coco_url", "127.0.0.1:80"], "--coco_url must be an address such as http://host or https"),
    (["--download_val", "--coco_url", "http://[::1/x"], "--coco_url must be an address such as http://host or https"),
    (["--download_val", "--coco_url", "http:///x"], "--coco_url must be an address such as http://host or https://h"),
    (
        ["--download_val", "--coco_checksums", "none"],
        "none: the checksums cannot be read (No such file or directory); correct --coco",
    ),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_and_mistakes_load_no_torch() -> None:
    code = "import sys; from dino_detector.commands.download import main; main([])"
    code += "; main(['--download_val', '--coco_url', 'x']); main(['--help'])"
    check = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("False\n")
    assert "--download_val" in run.stdout


def test_every_split_is_downloaded_by_one_command_and_then_left_alone(
    server: CocoServer, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = ["--download_train", "--download_val", "--download_test"]
    assert main([*splits, *flags]) == 0
    assert len(server.requests) == 5
    for split in ("train", "val", "test"):
        images = sorted((tmp_path / "coco" / f"{split}2017").iterdir())
        assert [image.read_bytes() for image in images] == [jpeg(number) for number in range(40)]
    run = subprocess.run([sys.executable, SCRIPT, *splits, *flags], capture_output=True, text=True, check=True)
    assert len(server.requests) == 5
    assert run.stderr == ""
    assert [line.split(",")[0] for line in run.stdout.splitlines()] == [
        f"{tmp_path / 'coco' / split}2017 is complete" for split in ("train", "val", "test")
    ]


def test_what_the_server_refuses_is_code_2(
    server: CocoServer, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan[IMAGES] = [status(404)]
    assert main(["--download_val", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {server.url}/{IMAGES}: the server answered 404 Not Found; correct --coco_url")
    assert error.count("\n") == 1


def start(flags: list[str], server: CocoServer, part: Path) -> subprocess.Popen[str]:
    """Start a download, and return when a part of the images has arrived."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--download_val", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # if a shell runs the tests in the background, the tests and their children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 20
    while not part.exists() or part.stat().st_size < 100_000:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_download_that_was_stopped_goes_on_where_it_was(
    how: signal.Signals, code: int, server: CocoServer, flags: list[str], tmp_path: Path
) -> None:
    part = tmp_path / "coco" / "val2017.zip.part"
    server.seconds_per_piece = 0.02
    process = start(flags, server, part)
    process.send_signal(how)
    _, error = process.communicate(timeout=10)
    assert process.returncode == code
    if how == signal.SIGINT:
        assert error.startswith("stopped; ")
        assert str(tmp_path / "coco") in error
        assert error.count("\n") == 1
    arrived = part.stat().st_size
    assert 100_000 <= arrived < len(server.files[IMAGES])
    assert server.files[IMAGES].startswith(part.read_bytes())
    time.sleep(0.1)  # until the server has noticed
    server.seconds_per_piece = 0
    server.served.clear()
    assert main(["--download_val", *flags]) == 0
    assert server.starts(IMAGES) == [0, arrived]
    assert server.served[IMAGES] == len(server.files[IMAGES]) - arrived
    images = sorted((tmp_path / "coco" / "val2017").iterdir())
    assert [image.read_bytes() for image in images] == [jpeg(number) for number in range(40)]


def test_two_commands_at_once_do_not_disturb_each_other(server: CocoServer, flags: list[str], tmp_path: Path) -> None:
    server.seconds_per_piece = 0.02
    first = start(flags, server, tmp_path / "coco" / "val2017.zip.part")
    server.seconds_per_piece = 1  # until the second command waits
    command = [sys.executable, SCRIPT, "--download_val", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout.readline().startswith("another process downloads into ")
        server.seconds_per_piece = 0
    assert (first.wait(10), second.returncode) == (0, 0)
    assert server.starts(IMAGES) == [0]


@pytest.mark.parametrize("size", [(24, 120), (0, 0)], ids=str)
def test_a_terminal_shows_a_bar_with_speed_and_time_left(
    size: tuple[int, int], server: CocoServer, flags: list[str]
) -> None:
    server.seconds_per_piece = 0.01
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, size)
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--download_val", *flags], stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # Linux raises this if the other end has closed
            break
    os.close(ours)
    assert process.wait(10) == 0
    assert b"fetching val2017.zip:" in shown
    assert b"B/s]" in shown
    assert b"unpacking val2017.zip" in shown


def test_the_archive_is_gone_when_all_is_unpacked(server: CocoServer, flags: list[str], tmp_path: Path) -> None:
    assert main(["--download_val", *flags]) == 0
    assert [path.name for path in (tmp_path / "coco").iterdir() if "zip" in path.name] == []
