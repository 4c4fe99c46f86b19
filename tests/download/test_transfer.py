from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from coco_server import (
    Behaviour,
    CocoServer,
    Handler,
    body,
    drop,
    gzipped,
    ignore_range,
    lying_range,
    redirect,
    stall,
    status,
    web_page,
    with_more,
    without_length,
    wrong_range,
    zipped,
)

from dino_detector.download import http, progress
from dino_detector.download.transfer import fetch_file
from dino_detector.errors import InputError

CONTENT = zipped({"noise": os.urandom(200_000)})
HALF = 100_000
PATH = "zips/a.zip"
FIRST_WAIT = http.FIRST_WAIT


@pytest.fixture
def server() -> Iterator[CocoServer]:
    with CocoServer() as server:
        server.files[PATH] = CONTENT
        yield server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "a.zip.part"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def empty(handler: Handler, content: bytes) -> None:
    handler.answer(200, b"", length=None)


def error_page(handler: Handler, content: bytes) -> None:
    handler.answer(200, b"an error page")


def fetch(
    server: CocoServer, part: Path, *, size: int | None = len(CONTENT), content: bytes = CONTENT, url: str | None = None
) -> None:
    fetch_file(url or f"{server.url}/{PATH}", part, checksum=sha256(content), size=size)


class Trouble(NamedTuple):
    """A behaviour of the server, and the first byte of each request that the client then makes."""

    plan: list[Behaviour]
    starts: list[int]


TROUBLES = {
    "none": Trouble([], [0]),
    "broken once": Trouble([drop(HALF)], [0, HALF]),
    "broken often": Trouble([drop(20_000)] * 8, [20_000 * number for number in range(9)]),
    "busy": Trouble([status(503), status(500), status(429), status(408)], [0] * 5),
    "silent half-way": Trouble([stall(HALF, 0.6)], [0, HALF]),
    "silent at once": Trouble([stall(0, 0.6)], [0, 0]),
    "a web page first": Trouble([web_page], [0, 0]),
    "a web page half-way": Trouble([drop(HALF), web_page], [0, HALF, HALF]),
    "wrong bytes half-way": Trouble([drop(HALF), body(b"x" * len(CONTENT))], [0, HALF, 0]),
    "nothing half-way": Trouble([drop(HALF), empty], [0, HALF, HALF]),
    "no ranges": Trouble([drop(HALF), ignore_range], [0, HALF]),
    "a part that was not asked for": Trouble([drop(HALF), wrong_range], [0, HALF, 0]),
    "a range refused": Trouble([drop(HALF), status(416)], [0, HALF, 0]),
    "length unknown": Trouble([without_length], [0]),
    "more than announced": Trouble([with_more], [0]),
    "compressed": Trouble([gzipped], [0]),
    "compressed half-way": Trouble([drop(HALF), gzipped], [0, HALF]),
    "redirected": Trouble([drop(HALF), redirect], [0, HALF]),
    "wrong bytes once": Trouble([body(CONTENT[:-1] + b"x")], [0, 0]),
    "a part with wrong bytes": Trouble([drop(HALF), lying_range], [0, HALF, 0]),
}


@pytest.mark.parametrize("pinned", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_the_file_is_right_whatever_happens_on_the_way(
    trouble: Trouble, pinned: bool, server: CocoServer, part: Path
) -> None:
    server.plan[PATH] = list(trouble.plan)
    server.files[f"elsewhere/{PATH}"] = CONTENT
    fetch(server, part, size=len(CONTENT) if pinned else None)
    assert part.read_bytes() == CONTENT
    assert server.starts(PATH) == trouble.starts


def test_only_what_is_missing_is_sent_again(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [drop(20_000)] * 5
    fetch(server, part)
    assert server.served[PATH] == len(CONTENT)


def test_a_server_without_ranges_takes_nothing_away(server: CocoServer, part: Path) -> None:
    def without_ranges(handler: Handler, content: bytes) -> None:
        handler.answer(200, content, send=HALF // 2)

    server.plan[PATH] = [drop(HALF), *[without_ranges] * 9]
    with pytest.raises(InputError, match="the connection broke"):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:HALF]
    fetch(server, part)
    assert part.read_bytes() == CONTENT


def test_a_file_that_has_changed_is_fetched_from_the_start(server: CocoServer, part: Path) -> None:
    changed = zipped({"noise": os.urandom(150_000)})

    def change(handler: Handler, content: bytes) -> None:
        handler.serve(content, send=HALF)
        server.files[PATH] = changed

    server.plan[PATH] = [change]
    fetch(server, part, size=None, content=changed)
    assert part.read_bytes() == changed


def test_what_arrived_is_kept_for_the_next_call_and_for_another_mirror(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [drop(HALF), *[drop(0)] * 6]
    with pytest.raises(InputError):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:HALF]
    with CocoServer() as mirror:
        mirror.files["other/a.zip"] = CONTENT
        fetch(server, part, url=f"{mirror.url}/other/a.zip")
        assert mirror.starts("other/a.zip") == [HALF]
    assert part.read_bytes() == CONTENT


def test_answers_that_are_no_archive_take_nothing_away(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [drop(HALF), *[error_page] * 5]
    with pytest.raises(InputError, match="the answer is not a zip archive"):
        fetch(server, part, size=None)
    fetch(server, part, size=None)
    assert server.starts(PATH)[-1] == HALF
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(("size", "requests"), [(len(CONTENT), 1), (None, 2)])
def test_a_file_that_is_there_is_not_sent_again(
    size: int | None, requests: int, server: CocoServer, part: Path
) -> None:
    fetch(server, part, size=size)
    fetch(server, part, size=size)
    assert server.served[PATH] == len(CONTENT)
    assert len(server.requests) == requests  # without its size only the server knows that the file is complete


@pytest.mark.parametrize("there", [b"x" * HALF, CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_wrong_part_file_is_thrown_away(there: bytes, server: CocoServer, part: Path) -> None:
    part.write_bytes(there)
    fetch(server, part)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_wrong_checksum_twice_is_an_error_and_leaves_nothing(
    size: int | None, server: CocoServer, part: Path
) -> None:
    server.files[PATH] = CONTENT[:HALF] + b"x" * (len(CONTENT) - HALF)
    with pytest.raises(InputError, match=rf"{server.url}/{PATH}: does not have the checksum .*--coco_checksums"):
        fetch(server, part, size=size)
    assert server.starts(PATH) == [0, 0]
    assert list(part.parent.iterdir()) == []


def test_another_size_is_found_before_the_body_is_read(server: CocoServer, part: Path) -> None:
    part.write_bytes(CONTENT[:HALF])
    server.files[PATH] = zipped({"noise": bytes(50_000_000)})
    with pytest.raises(InputError, match=r"has 50,000,\d+ bytes, but .* has 200,\d+; .*--coco_checksums"):
        fetch(server, part)
    assert len(server.requests) == 1
    assert part.read_bytes() == CONTENT[:HALF]


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (410, 1), (503, 6), (429, 6)])
def test_only_errors_that_may_pass_are_retried(code: int, requests: int, server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [status(code)] * 9
    with pytest.raises(InputError, match=rf"^{server.url}/{PATH}: the server answered {code} .*--coco_url") as error:
        fetch(server, part)
    assert "\n" not in str(error.value)
    assert len(server.requests) == requests


def test_a_web_page_is_never_accepted(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [web_page] * 9
    with pytest.raises(InputError, match="the answer is a web page"):
        fetch(server, part, size=None)
    assert part.read_bytes() == b""


def test_a_host_that_cannot_be_reached_is_named_and_given_up_within_twenty_seconds(
    part: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with CocoServer() as server:
        url = f"{server.url}/{PATH}"
    caplog.set_level("WARNING", logger="urllib3.connectionpool")  # commands silence it
    waits: list[float] = []
    monkeypatch.setattr(http, "FIRST_WAIT", FIRST_WAIT)
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(InputError, match=f"^{url}: cannot be reached .Connection refused.; [^\n]*--coco_url$"):
        fetch_file(url, part, checksum=sha256(CONTENT), size=None)
    repetitions = sum(record.name == "urllib3.connectionpool" for record in caplog.records)
    assert repetitions > 0
    assert sum(waits) + (1 + repetitions) * http.CONNECT_TIMEOUT <= 20


@pytest.mark.parametrize(("asked", "waited"), [("3", 3), ("86400", http.LONGEST_WAIT)])
def test_the_server_may_ask_to_wait(
    asked: str, waited: float, server: CocoServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan[PATH] = [status(503, Retry_After=asked)]
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    fetch(server, part)
    assert waits == [waited]


def test_without_a_terminal_progress_is_logged(
    server: CocoServer, part: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    caplog.set_level("INFO", logger=progress.__name__)
    fetch(server, part)
    assert any(message.startswith("fetching a.zip: ") and " 0%" not in message for message in caplog.messages)


def test_a_full_disk_is_found_before_anything_is_fetched(
    server: CocoServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(part.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * len(CONTENT) - 1))
    with pytest.raises(InputError, match=rf"{part.parent}: a.zip .*needs .*{2 * len(CONTENT):,} bytes.* make room"):
        fetch(server, part)
    assert server.requests == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits a process of its own")
def test_a_disk_that_fills_up_keeps_what_has_arrived(server: CocoServer, part: Path) -> None:
    with pytest.raises(InputError, match=f"^{part}: .*disk is full.*; make room"):
        limited_to(HALF, lambda: fetch(server, part))
    assert part.read_bytes() == CONTENT[:HALF]
    fetch(server, part)
    assert part.read_bytes() == CONTENT


def limited_to(size: int, action: Callable[[], None]) -> None:
    """Run an action while no file can become larger than ``size`` bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
