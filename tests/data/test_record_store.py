"""Every process finds all complete records; an incomplete record is absent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import time
from pathlib import Path

import pytest

from dino_detector.data.record_store import RecordStore


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def contents(number: int) -> bytes:
    """Return contents of every length, also empty; no two are equal."""
    return bytes((number * 7 + position) % 251 for position in range(number * 13 % 97)) + number.to_bytes(4, "big") * (
        number % 3
    )


def filled(folder: Path, numbers: range) -> RecordStore:
    store = RecordStore(folder)
    for number in numbers:
        store.append(key(number), contents(number))
    return store


def read(store: RecordStore, number: int) -> bytes | None:
    found = store.get(key(number))
    return None if found is None else bytes(found)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_is_written_is_read_by_the_writer_and_by_others(tmp_path: Path):
    early = RecordStore(tmp_path / "store")
    assert len(early._places) == 0
    assert read(early, 1) is None
    assert not (tmp_path / "store").exists(), "nothing was written"
    writer = filled(tmp_path / "store", range(20))
    late = RecordStore(tmp_path / "store")
    for store in (writer, early, late, pickle.loads(pickle.dumps(writer))):
        assert [read(store, number) for number in range(21)] == [*map(contents, range(20)), None]
    assert len(late._places) == 20


def test_of_several_records_with_one_key_the_newest_counts(tmp_path: Path):
    writer = filled(tmp_path, range(3))
    writer.append(key(1), b"new")
    assert read(writer, 1) == b"new"
    assert read(RecordStore(tmp_path), 1) == b"new"


@pytest.mark.parametrize("tail", ["cut", "zeros", "noise"])
def test_a_file_that_ends_anywhere_has_the_records_before(tmp_path: Path, tail: str):
    """A process can be killed, or a machine lose its power, at any byte."""
    filled(tmp_path / "whole", range(6))
    whole = only_file(tmp_path / "whole").read_bytes()
    ends = [0]
    for number in range(6):
        alone = tmp_path / f"first_{number}"
        filled(alone, range(number + 1))
        ends.append(only_file(alone).stat().st_size)
    assert ends[-1] == len(whole)
    for cut in range(len(whole)):
        folder = tmp_path / tail / str(cut)
        folder.mkdir(parents=True)
        rest = {"cut": b"", "zeros": bytes(len(whole) - cut), "noise": b"\xa5" * (len(whole) - cut)}[tail]
        (folder / "a.records").write_bytes(whole[:cut] + rest)
        complete = sum(end <= cut for end in ends[1:])
        store = RecordStore(folder)
        found = [read(store, number) for number in range(6)]
        assert found[:complete] == [contents(number) for number in range(complete)]
        assert all(one in (None, contents(number)) for number, one in enumerate(found)), "never something wrong"
        if complete < 6 and whole[cut:] != rest:
            assert None in found
        for number in range(6):
            if found[number] is None:
                store.append(key(number), contents(number))
        assert [read(RecordStore(folder), number) for number in range(6)] == list(map(contents, range(6)))


@pytest.mark.parametrize("name", ["0.records", "~.records"], ids=["before", "after"])
def test_a_damaged_record_is_absent_until_it_is_written_again(tmp_path: Path, name: str):
    """The order in which the files are read does not matter."""
    filled(tmp_path, range(5))
    damaged = tmp_path / name
    only_file(tmp_path).rename(damaged)
    whole = bytearray(damaged.read_bytes())
    place = whole.index(contents(4))
    whole[place + 2] ^= 1
    damaged.write_bytes(whole)
    store = RecordStore(tmp_path)
    assert [read(store, number) for number in range(5)] == [*map(contents, range(4)), None]
    store.append(key(4), contents(4))
    assert read(store, 4) == contents(4)
    assert read(RecordStore(tmp_path), 4) == contents(4)


def test_the_good_copy_of_a_damaged_record_is_found_by_who_knows_the_damaged_one(tmp_path: Path):
    filled(tmp_path, range(2))
    (damaged,) = tmp_path.iterdir()
    whole = bytearray(damaged.read_bytes())
    whole[whole.index(contents(1)) + 2] ^= 1
    damaged.write_bytes(whole)
    reader, writer = RecordStore(tmp_path), RecordStore(tmp_path)
    assert read(reader, 1) is None
    writer.append(key(1), contents(1))
    assert read(reader, 1) == contents(1)


def test_records_whose_file_has_gone_are_absent(tmp_path: Path):
    filled(tmp_path, range(3))
    reader, other = RecordStore(tmp_path), RecordStore(tmp_path)
    assert read(reader, 0) == contents(0)
    (removed,) = tmp_path.iterdir()
    removed.unlink()
    assert [read(other, number) for number in range(3)] == [None] * 3
    filled(tmp_path, [2])
    assert [read(other, number) for number in range(3)] == [None, None, contents(2)]


def _write_until_killed(folder: Path) -> None:
    store = RecordStore(folder)
    number = 0
    while True:
        store.append(key(number), contents(number) * 500)
        number += 1


def test_a_writer_that_is_killed_leaves_complete_records_only(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_until_killed, args=(tmp_path,))
    writer.start()
    reader = RecordStore(tmp_path)
    deadline = time.monotonic() + 60
    while len(reader._places) < 200 and time.monotonic() < deadline:
        reader.refresh()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    for store in (reader, RecordStore(tmp_path)):
        store.refresh()
        assert len(store._places) >= 200
        assert all(read(store, number) == contents(number) * 500 for number in range(len(store._places)))


def _write(folder: Path, first: int) -> None:
    filled(folder, range(first, 60, 3))


def test_several_processes_fill_one_store(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, first)) for first in range(3)]
    reader = RecordStore(tmp_path)
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [read(reader, number) for number in range(60)] == list(map(contents, range(60)))
    assert len(list(tmp_path.iterdir())) == 3


def _write_where_files_are_small(folder: Path) -> None:
    """Write while no file of this process can grow beyond 4,000 bytes, like on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    store = RecordStore(folder)
    store.append(key(1), bytes(3000))
    for _ in range(2):
        with pytest.raises(OSError, match="File too large"):
            store.append(key(2), bytes(3000))
    assert only_file(folder).stat().st_size < 3100
    store.append(key(3), bytes(500))
    assert [read(store, number) for number in (1, 2, 3)] == [bytes(3000), None, bytes(500)]


def test_a_full_disk_leaves_the_records_before(tmp_path: Path):
    writer = multiprocessing.get_context("spawn").Process(target=_write_where_files_are_small, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert [read(RecordStore(tmp_path), number) for number in (1, 2, 3)] == [bytes(3000), None, bytes(500)]
