from __future__ import annotations

import os
import signal
import sys

import pytest

from dino_detector.data import read_ahead
from dino_detector.data.coco import CocoAnnotations
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

    def read(cls, path):
        readers.append(os.getpid())
        return original(cls, path)

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
        with pytest.raises(InputError, match='it has no list "annotations"'):
            annotations.read(path)


def test_a_reader_that_is_killed_is_replaced(write_json, coco, any_size, monkeypatch):
    path, here = write_json(coco), os.getpid()
    original = CocoAnnotations.read.__func__

    def read(cls, path):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(cls, path)

    monkeypatch.setattr(CocoAnnotations, "read", classmethod(read))
    with ReadAhead() as annotations:
        annotations.begin(path)
        assert len(annotations.read(path).images) == 3
