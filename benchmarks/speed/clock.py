"""Times of equal steps, and the memory of a process."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

MARK = "measured "


class Clock:
    """Times from the end of a step to the end of the next.

    Args:
        warm_up: steps before those that count.
        steps: that count.
    """

    def __init__(self, *, warm_up: int, steps: int) -> None:
        self.warm_up = warm_up
        self.steps = steps
        self.ends: list[float] = []

    def tick(self) -> bool:
        """A step has ended; returns whether that was the last."""
        self.ends.append(time.perf_counter())
        return len(self.ends) > self.warm_up + self.steps

    @property
    def seconds(self) -> float:
        """Of a step, the median."""
        ends = self.ends[self.warm_up :]
        return median(after - before for before, after in pairwise(ends))


def seconds_of(call: Callable[[], Any], *, warm_up: int = 2, steps: int = 10) -> float:
    """Of a call, the median."""
    clock = Clock(warm_up=warm_up, steps=steps)
    while not clock.tick():
        call()
    return clock.seconds


def report(**numbers: float | None) -> None:
    """Print what was measured, and the peak of the resident memory in bytes, for the process that has asked."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{MARK}{json.dumps(numbers | {'peak_memory_bytes': peak})}", flush=True)


def main(measurements: Mapping[str, Callable[..., None]]) -> None:
    """Take the measurement that the command line names, with the settings that follow as JSON."""
    name, settings = sys.argv[1:]
    measurements[name](**json.loads(settings))
