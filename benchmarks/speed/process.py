"""A measurement in its own process."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.runs import environment
from benchmarks.speed.clock import MARK
from dino_detector.errors import InputError

LAST_LINES = 8
"""lines of the output that an error quotes"""


@dataclass(frozen=True)
class Measurement:
    """A function of a module of this package, and its arguments.

    Attributes:
        title: name for people.
        module: module of this package.
        name: name of the function.
        settings: keyword arguments that JSON can hold.
    """

    title: str
    module: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def measure_in_process(measurement: Measurement, *, python: Path, threads: int) -> dict[str, float]:
    """Return the numbers that a measurement reports.

    Raises:
        InputError: the process failed; the message quotes the end of its output.
    """
    done = subprocess.run(
        [python, "-m", f"benchmarks.speed.{measurement.module}", measurement.name, json.dumps(measurement.settings)],
        capture_output=True,
        text=True,
        env=environment(threads),
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        end = " | ".join((done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:])
        raise InputError(f"{measurement.module}, {measurement.name} failed: {end}")
    return json.loads(lines[-1].removeprefix(MARK))
