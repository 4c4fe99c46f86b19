"""Runs in separate processes: results, reuse and failures."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_settings import TINY

from benchmarks.accuracy import ours, runs
from benchmarks.accuracy.job import Job
from benchmarks.accuracy.recorder import OVERRUN, RECORD, Pace
from benchmarks.common.machine import revision
from dino_detector.errors import InputError

MIB = 2**20


@pytest.fixture
def new_job(job: Callable[..., Job], tmp_path: Path) -> Callable[..., Job]:
    """Return a function that makes a job whose folder does not exist yet."""

    def make(**fields: Any) -> Job:
        return dataclasses.replace(job(**{"settings": TINY} | fields), folder=str(tmp_path / "new"))

    return make


def test_a_run_is_scored_and_reused(new_job: Callable[..., Job]):
    asked = new_job(budget=3.0, evaluations=3)
    assert runs.finished(asked) is None
    result = runs.run(asked, python=Path(sys.executable), module="ours", threads=1)
    assert runs.finished(asked) == result
    evaluations = result["evaluations"]
    assert len(evaluations) >= 2
    for name in ("seconds", "images_seen"):
        values = [evaluation[name] for evaluation in evaluations]
        assert values == sorted(set(values)), name
    assert evaluations[-1]["images_seen"] % 2 == 0
    assert evaluations[-1]["seconds"] < asked.budget * OVERRUN + 0.5
    assert all(0 <= evaluation["AP"] <= 1 for evaluation in evaluations)
    assert result["peak_memory_bytes"] > 100 * MIB
    assert 0 <= result["processor_share_of_others"] <= 1
    assert result["revision"] == revision()
    found = json.loads(Path(asked.folder, evaluations[-1]["predictions"]).read_text())
    assert {detection["image_id"] for detection in found} == {31, 12}
    assert {detection["category_id"] for detection in found} <= {4, 9}


def test_a_result_of_another_job_is_refused(new_job: Callable[..., Job]):
    asked = new_job()
    Path(asked.folder).mkdir()
    longer = dataclasses.replace(asked, budget=60.0)
    Path(asked.folder, runs.RESULT).write_text(json.dumps({"job": longer.to_json()}))
    with pytest.raises(InputError, match=r"another budget; give another --output"):
        runs.finished(asked)


def test_a_failed_system_reports_the_end_of_its_log(new_job: Callable[..., Job], warm_python: Path):
    asked = new_job(settings=TINY | {"num_heads": 5})
    with pytest.raises(InputError, match=r"ours failed.*hidden_dim must be a multiple of num_heads"):
        runs.run(asked, python=warm_python, module="ours", threads=1)
    assert runs.finished(asked) is None


def test_a_late_run_stops_after_its_budget_and_is_evaluated(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Pace, "images_per_second", 100_000.0)
    asked = job(settings=TINY, budget=2.0, evaluations=2)
    ours.train(asked)
    record = json.loads(Path(asked.folder, RECORD).read_text())
    (only,) = record["evaluations"]  # the planned ones are 50,000 epochs away
    assert asked.budget * OVERRUN <= only["seconds"] < asked.budget * OVERRUN + 0.5


def test_a_budget_below_two_epochs_is_refused(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Pace, "images_per_second", 0.02)
    asked = job(settings=TINY, budget=150.0)
    with pytest.raises(InputError, match=r"--budget 150: an epoch takes 100 s, and there have to be at least 2"):
        ours.train(asked)


def test_memory_includes_children_and_counts_shared_memory_once():
    code = (
        "import os, sys; held = bytearray(os.urandom(1)) * (150 * 2**20); child = os.fork(); "
        "extra = b'' if child else bytearray(os.urandom(1)) * (50 * 2**20); "
        "os.write(1, b'.'); sys.stdin.readline(); os._exit(0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for _ in range(2):
            os.read(process.stdout.fileno(), 1)
        held = runs.memory_of_tree(process.pid) / MIB
    finally:
        process.communicate(b"\n\n")
    assert 200 <= held <= 240 if sys.platform == "linux" else held >= 200


def test_a_finished_process_has_no_memory():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert runs.memory_of_tree(process.pid) == 0
