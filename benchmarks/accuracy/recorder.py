"""What a run leaves behind: its evaluations, each with the time of training and the images behind it."""

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
"""detections of an image that count, those with the highest scores"""
OVERRUN = 1.02
"""a run whose length is planned and that is slower than it was to be is stopped after this many times the budget"""


class TrainingClock:
    """Seconds from the first training step on, without the pauses in which a run evaluates."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._before + (0.0 if self._since is None else self._now() - self._since)

    def start(self) -> None:
        """Start, or go on after a pause; a clock that runs goes on running."""
        if self._since is None:
            self._since = self._now()

    def pause(self) -> None:
        """Stop until the next `start`."""
        self._before, self._since = self.seconds, None


class Pace:
    """Images a second, measured over some seconds after a warm-up.

    Args:
        seconds: how long to measure; a quarter of that passes before.
        clock: runs from the first step on.
    """

    def __init__(self, seconds: float, clock: TrainingClock | None = None) -> None:
        self.clock = clock or TrainingClock()
        self.warm_up = seconds / 4
        self.seconds = seconds
        self._images = 0
        self._first: tuple[float, int] | None = None
        self._measured: float | None = None

    def step(self, images: int) -> bool:
        """Count a step that has ended; returns whether enough has been measured."""
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
        """The pace from the end of the warm-up to the step with which enough had been measured."""
        assert self._measured is not None, "not enough has been measured"
        return self._measured


class Recorder:
    """Counts images and time of a run, says when to evaluate and when to stop, and writes what was found.

    ``predictions_N.json`` has the detections of the N-th evaluation; ``record.json``, complete or absent, is written
    at the end of the run.

    Args:
        job: what the run is asked to do.
        clock: runs from the first step on.
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
        """Whether a run is to stop though what was planned is not done."""
        return self.clock.seconds >= self.job.budget * OVERRUN

    @property
    def is_due(self) -> bool:
        """Whether training has reached the time of another evaluation, that at the end not counted."""
        last = self.evaluations[-1]["seconds"] if self.evaluations else 0.0
        times = (self.job.budget * number / self.job.evaluations for number in range(1, self.job.evaluations))
        return any(last < due <= self.clock.seconds for due in times)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Stop the clock for an evaluation."""
        self.clock.pause()
        try:
            yield
        finally:
            self.clock.start()

    def record(self, results: list[dict[str, Any]]) -> None:
        """Write the detections of an evaluation, as COCO results, and remember when it was."""
        path = Path(self.job.folder) / f"predictions_{len(self.evaluations) + 1}.json"
        path.write_text(json.dumps(results), encoding="utf-8")
        self.evaluations.append(
            {"seconds": self.clock.seconds, "images_seen": self.images_seen, "predictions": path.name}
        )

    def write(self, **extra: Any) -> None:
        """Write ``record.json``: the evaluations, and what else there is to say of the run."""
        folder = Path(self.job.folder)
        beside = folder / f".{RECORD}"
        beside.write_text(json.dumps({"evaluations": self.evaluations, **extra}, indent=2) + "\n", encoding="utf-8")
        beside.replace(folder / RECORD)


def coco_result(image_id: int, category_id: int, box_xyxy: list[float], score: float) -> dict[str, Any]:
    """A detection in COCO's results format, its box in pixels of the original image."""
    left, top, right, bottom = box_xyxy
    bbox = [round(number, 3) for number in (left, top, right - left, bottom - top)]
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}
