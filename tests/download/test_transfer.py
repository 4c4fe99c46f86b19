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

from dino_detector.download.checksums import Checksum
from dino_detector.download.retry import Patience
from dino_detector.download.transfer import fetch_file
from dino_detector.errors import InputError

CONTENT = zipped({"noise": os.urandom(200_000)})
HALF = 100_000
QUICK = Patience(first_wait=0.001, longest_wait=0.002, read_timeout=0.3)
PATH = "zips/a.zip"


@pytest.fixture
def server() -> Iterator[CocoServer]:
    with CocoServer() as server:
        server.files[PATH] = CONTENT
        yield server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "a.zip.part"


def sha256(content: bytes) -> Checksum:
    return Checksum(hashlib.sha256(content).hexdigest())


def empty(handler: Handler, content: bytes) -> None:
    handler.answer(200, b"", length=None)


def fetch(
    server: CocoServer, part: Path, *, size: int | None = len(CONTENT), content: bytes = CONTENT, url: str | None = None
) -> None:
    fetch_file(url or f"{server.url}/{PATH}", part, checksum=sha256(content), size=size, patience=QUICK)


class Trouble(NamedTuple):
    """What the server does, and the first byte of each request that a client then makes."""

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
    "wrong bytes half-way": Trouble([drop(HALF), body(b"x" * len(CONTENT))], [0, HALF, HALF]),
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
    assert len(server.requests) == 2
    assert server.requests[1].if_range == f'"{hashlib.md5(CONTENT).hexdigest()}"'


def test_what_arrived_is_kept_for_the_next_call_and_for_another_mirror(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [drop(HALF), *[drop(0)] * 6]
    with pytest.raises(InputError):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:HALF]
    with CocoServer() as mirror:
        mirror.files["other/a.zip"] = CONTENT
        fetch(server, part, url=f"{mirror.url}/other/a.zip")
        assert [(request.start, request.if_range) for request in mirror.requests] == [(HALF, None)]
    assert part.read_bytes() == CONTENT


def test_answers_that_are_no_archive_take_nothing_away(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [drop(HALF), *[body(b"an error page")] * 6]
    with pytest.raises(InputError, match="the answer is not a zip archive"):
        fetch(server, part, size=None)
    fetch(server, part, size=None)
    assert server.starts(PATH)[-1] == HALF
    assert server.served[PATH] == len(CONTENT) + 6 * len(b"an error page")


def test_a_file_that_is_there_is_not_asked_for(server: CocoServer, part: Path) -> None:
    fetch(server, part, size=None)
    fetch(server, part, size=None)
    assert len(server.requests) == 1


@pytest.mark.parametrize("record", ["", "[1, 2]", '["a", "b", "c"]', "null"])
def test_a_broken_record_does_no_harm(record: str, server: CocoServer, part: Path) -> None:
    part.write_bytes(CONTENT[:HALF])
    part.with_name("a.zip.part.json").write_text(record)
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.starts(PATH) == [HALF]


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
    with pytest.raises(InputError, match=rf"{server.url}/{PATH}: has not the checksum .*--coco_checksums"):
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


def test_a_host_that_refuses_is_named_with_what_to_do(part: Path) -> None:
    with CocoServer() as server:
        url = f"{server.url}/{PATH}"
    with pytest.raises(InputError) as error:
        fetch_file(url, part, checksum=sha256(CONTENT), size=None, patience=QUICK)
    assert str(error.value) == (
        f"{url}: cannot be reached (Connection refused); check the network or the proxy and run again (what has "
        "arrived is kept), or give a mirror with --coco_url"
    )


def test_a_host_that_does_not_answer_is_given_up_by_the_clock(part: Path) -> None:
    patience = Patience(attempts=99, first_wait=0.05, longest_wait=0.05, connect_timeout=0.1, unreachable=0.3)
    begun = time.monotonic()
    with pytest.raises(InputError, match="cannot be reached"):
        fetch_file("http://127.0.0.1:1/a.zip", part, checksum=sha256(CONTENT), size=None, patience=patience)
    assert time.monotonic() - begun < 2


def test_no_wait_is_longer_than_the_defaults_promise() -> None:
    patience = Patience()
    refused = sum(patience.first_wait * 2**number for number in range(patience.attempts - 1))
    silent = patience.unreachable + patience.connect_timeout
    assert max(refused, silent) < 20


def test_the_server_may_ask_to_wait(server: CocoServer, part: Path) -> None:
    server.plan[PATH] = [status(503, Retry_After="1")]
    patience = Patience(first_wait=0.001, longest_wait=0.2)
    begun = time.monotonic()
    fetch_file(f"{server.url}/{PATH}", part, checksum=sha256(CONTENT), size=None, patience=patience)
    assert time.monotonic() - begun >= 0.2


def test_a_full_disk_is_found_before_anything_is_fetched(
    server: CocoServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(part.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=len(CONTENT) - 1))
    with pytest.raises(InputError, match=rf"{part.parent}: a.zip needs .*{len(CONTENT):,} bytes.* make room"):
        fetch(server, part)
    assert server.requests == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits a process of its own")
def test_a_disk_that_fills_up_keeps_what_has_arrived(server: CocoServer, part: Path) -> None:
    with pytest.raises(InputError, match=rf"{part}: the disk is full .*bytes\) are needed .* are free"):
        limited_to(HALF, lambda: fetch(server, part))
    assert part.read_bytes() == CONTENT[:HALF]
    fetch(server, part)
    assert part.read_bytes() == CONTENT


def limited_to(size: int, action: Callable[[], None]) -> None:
    """Act while no file may become larger than ``size`` bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
