"""Timing of equal steps, and the output of a measurement."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks.common.command_line import command_parser

MARK = "measured "
"""start of the output line with the measured numbers"""


class Clock:
    """Duration of a step, from the end of the step before.

    Args:
        warm_up: number of first steps that are not timed.
        steps: number of timed steps.
    """

    def __init__(self, *, warm_up: int, steps: int) -> None:
        self.warm_up = warm_up
        self.steps = steps
        self.ends: list[float] = []

    def tick(self) -> bool:
        """Note the end of a step; return whether it was the last one."""
        self.ends.append(time.perf_counter())
        return len(self.ends) > self.warm_up + self.steps

    @property
    def seconds(self) -> float:
        """Median duration of the timed steps."""
        ends = self.ends[self.warm_up :]
        return median(after - before for before, after in pairwise(ends))


def seconds_of(call: Callable[[], Any], *, warm_up: int = 2, steps: int = 10) -> float:
    """Return the median duration of a call."""
    clock = Clock(warm_up=warm_up, steps=steps)
    while not clock.tick():
        call()
    return clock.seconds


def report(**numbers: float | None) -> None:
    """Print the measured numbers and the peak resident memory in bytes, for the parent process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{MARK}{json.dumps(numbers | {'peak_memory_bytes': peak})}", flush=True)


def main(module: str, description: str, measurements: Mapping[str, Callable[..., None]]) -> None:
    """Run the measurement that the command line of ``python -m MODULE`` names."""
    parser = command_parser(module, description)
    parser.add_argument("measurement", choices=measurements)
    parser.add_argument("settings", type=json.loads, help="keyword arguments of the measurement, as JSON")
    options = parser.parse_args()
    measurements[options.measurement](**options.settings)
