from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dino_detector.data import read_ahead
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.read_ahead import ReadAhead
from dino_detector.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads ahead on Linux alone")


@pytest.fixture
def any_size(monkeypatch):
    """Every file counts as large."""
    monkeypatch.setattr(read_ahead, "LARGE", 0)


def reads_here(monkeypatch):
    """The process that reads, by the file that it is asked for."""
    readers = []
    original = CocoAnnotations.read.__func__

    def read(cls, path, **where):
        readers.append(os.getpid())
        return original(cls, path, **where)

    monkeypatch.setattr(CocoAnnotations, "read", classmethod(read))
    return readers


def test_another_process_reads_the_same(write_json, coco, any_size, monkeypatch):
    path = write_json(coco)
    expected = CocoAnnotations.read(path)
    here = reads_here(monkeypatch)
    with ReadAhead() as annotations:
        annotations.begin(path)
        found = annotations.read(path)
    assert here == []
    assert tuple(found.images) == tuple(expected.images)
    assert found.categories == expected.categories
    assert found.ground_truth == expected.ground_truth
    assert found.training.boxes_xyxy.tolist() == expected.training.boxes_xyxy.tolist()


def test_small_and_unexpected_files_are_read_here(write_json, coco, monkeypatch):
    path = write_json(coco)
    here = reads_here(monkeypatch)
    with ReadAhead() as annotations:
        annotations.begin(path)
        annotations.begin(path.parent / "nowhere.json")
        annotations.read(path)
    assert here == [os.getpid()]


def test_what_is_wrong_with_the_file_is_told_when_it_is_asked_for(write_json, coco, any_size):
    path = write_json({"images": []})
    with ReadAhead() as annotations:
        annotations.begin(path)
        with pytest.raises(InputError, match="lists that are missing or empty"):
            annotations.read(path)


def test_a_reader_that_is_killed_is_replaced(write_json, coco, any_size, monkeypatch):
    path, here = write_json(coco), os.getpid()
    original = CocoAnnotations.read.__func__

    def read(cls, path, **where):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(cls, path, **where)

    monkeypatch.setattr(CocoAnnotations, "read", classmethod(read))
    with ReadAhead() as annotations:
        annotations.begin(path)
        assert len(annotations.read(path).images) == 3


def test_a_file_that_has_changed_since_is_read_again(write_json, coco, any_size):
    """As a download replaces one that is cut short."""
    path = write_json('{"images": [')
    with ReadAhead() as annotations:
        annotations.begin(path)
        write_json(coco)
        assert len(annotations.read(path).images) == 3


SLOW = """
import os, signal, sys, time
from pathlib import Path
from dino_detector.data import read_ahead
from dino_detector.data.coco.annotations import CocoAnnotations

def slow(cls, path, **where):
    print(os.getpid(), flush=True)
    time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
CocoAnnotations.read = classmethod(slow)
read_ahead.LARGE = 0
with read_ahead.ReadAhead() as annotations:
    annotations.begin(Path(sys.argv[1]))
    if sys.argv[2] == "error":
        time.sleep(1)
        raise SystemExit(2)
    annotations.read(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("way", "code"), [("error", 2), (signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_who_leaves_does_not_wait_for_the_reader_and_takes_it_along(write_json, coco, way, code):
    command = [sys.executable, "-c", SLOW, str(write_json(coco)), str(way)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as leaving:
        reader = int(leaving.stdout.readline())
        began = time.monotonic()
        if way != "error":
            leaving.send_signal(way)
        assert leaving.wait(timeout=30) == code
        assert time.monotonic() - began < 20
    for _ in range(100):
        if not psutil.pid_exists(reader) or psutil.Process(reader).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the reader lives on")
