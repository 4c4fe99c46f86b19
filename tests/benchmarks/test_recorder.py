"""Clock, throughput, evaluation times and record of a run, with a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.accuracy.job import Job
from benchmarks.accuracy.recorder import Pace, Recorder, TrainingClock, coco_result


class ManualTime:
    """A source of time that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def now() -> ManualTime:
    return ManualTime()


def test_the_clock_starts_with_the_first_step_and_excludes_evaluations(now: ManualTime):
    clock = TrainingClock(now)
    now.time += 50
    assert clock.seconds == 0
    clock.start()
    now.time += 3
    clock.start()  # the second step
    now.time += 4
    clock.pause()
    now.time += 100
    assert clock.seconds == 7
    clock.start()
    now.time += 1
    assert clock.seconds == 8


def test_the_throughput_excludes_the_warm_up(now: ManualTime):
    pace = Pace(20.0, TrainingClock(now))
    pace.clock.start()
    ends = []
    for seconds in (6.0, 4.0, 4.0, 4.0, 4.0, 4.0):  # the first step is longer than the warm-up of 5 s
        now.time += seconds
        ends.append(pace.step(8))
    assert ends == [False, False, False, False, False, True]
    now.time += 30  # the end of the training
    assert pace.images_per_second == 8 / 4


def test_evaluations_are_due_at_equal_intervals_and_missed_ones_are_made_up_for_once(
    job: Callable[..., Job], now: ManualTime
):
    recorder = Recorder(job(budget=100.0, evaluations=4), TrainingClock(now))
    recorder.clock.start()
    due = []
    for _ in range(11):
        now.time += 9
        due.append(recorder.is_due)
        if recorder.is_due:
            with recorder.evaluating():
                now.time += 500
                recorder.record([])
    assert [number for number, is_due in enumerate(due, start=1) if is_due] == [3, 6, 9]  # 27, 54 and 81 s
    assert [evaluation["seconds"] for evaluation in recorder.evaluations] == [27, 54, 81]

    late = Recorder(job(budget=100.0, evaluations=4), TrainingClock(now))
    late.clock.start()
    now.time += 60  # two evaluations were due
    assert late.is_due
    late.record([])
    assert not late.is_due


def test_a_run_is_over_at_its_budget_and_late_two_percent_after_it(job: Callable[..., Job], now: ManualTime):
    recorder = Recorder(job(budget=100.0), TrainingClock(now))
    recorder.clock.start()
    seen = []
    for elapsed in (99.9, 0.2, 1.8, 0.2):
        now.time += elapsed
        seen.append((recorder.is_over, recorder.is_late))
    assert seen == [(False, False), (True, False), (True, False), (True, True)]


def test_the_record_names_the_detections_of_each_evaluation(job: Callable[..., Job], now: ManualTime):
    recorder = Recorder(job(), TrainingClock(now))
    recorder.clock.start()
    found = coco_result(31, 9, [10.0, 20.0, 110.0, 70.0004], 0.5)
    for images in (16, 40):
        now.time += 2
        recorder.images_seen = images
        recorder.record([found])
    recorder.write(parameters=7)
    folder = Path(recorder.job.folder)
    record = json.loads((folder / "record.json").read_text())
    assert record["parameters"] == 7
    assert [(entry["seconds"], entry["images_seen"]) for entry in record["evaluations"]] == [(2.0, 16), (4.0, 40)]
    assert json.loads((folder / record["evaluations"][1]["predictions"]).read_text()) == [found]
    assert found == {"image_id": 31, "category_id": 9, "bbox": [10.0, 20.0, 100.0, 50.0], "score": 0.5}


def test_a_job_file_restores_the_job(job: Callable[..., Job], tmp_path: Path):
    written = job(settings={"model": {"decoder_layers": 3}})
    written.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == written
