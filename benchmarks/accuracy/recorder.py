"""The record of a run: its evaluations, each with training time and number of training images so far."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.accuracy.job import Job

RECORD = "record.json"
MAX_DETECTIONS = 100
"""number of detections per image that are kept, by score"""
OVERRUN = 1.02
"""a run with planned epochs stops early after this multiple of its budget"""


class TrainingClock:
    """Training time in seconds since the first step, without evaluations.

    Args:
        now: returns the current time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return self._before + (0.0 if self._since is None else self._now() - self._since)

    def start(self) -> None:
        """Start or resume; no effect on a running clock."""
        if self._since is None:
            self._since = self._now()

    def pause(self) -> None:
        """Pause until the next `start`."""
        self._before, self._since = self.seconds, None


class Pace:
    """Training throughput after a warm-up.

    Args:
        seconds: length of the measurement; the warm-up takes a quarter of that.
        clock: clock that the caller starts with the first step.
    """

    def __init__(self, seconds: float, clock: TrainingClock | None = None) -> None:
        self.clock = clock or TrainingClock()
        self.warm_up = seconds / 4
        self.seconds = seconds
        self._images = 0
        self._first: tuple[float, int] | None = None
        self._measured: float | None = None

    def step(self, images: int) -> bool:
        """Count a finished step of ``images`` images; return whether the measurement is complete."""
        now = self.clock.seconds
        self._images += images
        if self._first is None:
            if now >= self.warm_up:
                self._first = (now, self._images)
            return False
        seconds, before = self._first
        if now < seconds + self.seconds:
            return False
        self._measured = (self._images - before) / (now - seconds)
        return True

    @property
    def images_per_second(self) -> float:
        """Throughput from the end of the warm-up to the step that completed the measurement."""
        assert self._measured is not None, "the measurement is not complete"
        return self._measured


class Recorder:
    """Count images and time of a run, schedule its evaluations and its end, and write its files.

    ``predictions_N.json`` has the detections of evaluation N. ``record.json`` is written at the end of the run, in one
    piece.

    Args:
        job: the run.
        clock: clock that the system starts with the first step.
    """

    def __init__(self, job: Job, clock: TrainingClock | None = None) -> None:
        self.job = job
        self.clock = clock or TrainingClock()
        self.images_seen = 0
        self.evaluations: list[dict[str, Any]] = []

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent."""
        return self.clock.seconds >= self.job.budget

    @property
    def is_late(self) -> bool:
        """Whether a run must stop before its planned end."""
        return self.clock.seconds >= self.job.budget * OVERRUN

    @property
    def is_due(self) -> bool:
        """Whether an evaluation before the final one is due."""
        last = self.evaluations[-1]["seconds"] if self.evaluations else 0.0
        times = (self.job.budget * number / self.job.evaluations for number in range(1, self.job.evaluations))
        return any(last < due <= self.clock.seconds for due in times)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Pause the clock during an evaluation."""
        self.clock.pause()
        try:
            yield
        finally:
            self.clock.start()

    def record(self, results: list[dict[str, Any]]) -> None:
        """Write the COCO results of an evaluation, and note the time and the images seen."""
        path = Path(self.job.folder) / f"predictions_{len(self.evaluations) + 1}.json"
        path.write_text(json.dumps(results), encoding="utf-8")
        self.evaluations.append(
            {"seconds": self.clock.seconds, "images_seen": self.images_seen, "predictions": path.name}
        )

    def write(self, **extra: Any) -> None:
        """Write ``record.json`` with the evaluations and the given fields."""
        folder = Path(self.job.folder)
        beside = folder / f".{RECORD}"
        beside.write_text(json.dumps({"evaluations": self.evaluations, **extra}, indent=2) + "\n", encoding="utf-8")
        beside.replace(folder / RECORD)


def coco_result(image_id: int, category_id: int, box_xyxy: list[float], score: float) -> dict[str, Any]:
    """Return a detection in COCO's results format, with its box in pixels of the original image."""
    left, top, right, bottom = box_xyxy
    bbox = [round(number, 3) for number in (left, top, right - left, bottom - top)]
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}
