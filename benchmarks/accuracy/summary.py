"""Statistics of runs: means and standard deviations over seeds, and the cost of reaching an AP."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Axis = Literal["images_seen", "seconds"]
"""measure of training: number of images or seconds"""


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1); the deviation of one value is None."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the statistics of one or more values."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


class Reached(NamedTuple):
    """Training that runs needed to reach an AP: ``runs`` out of ``of`` runs reached it, and ``spread`` is theirs."""

    spread: Spread | None
    runs: int
    of: int


def at_the_end(runs: Sequence[dict[str, Any]], name: str) -> Spread:
    """Return the statistics of a field of the last evaluation over the runs of one system."""
    return Spread.of([run["evaluations"][-1][name] for run in runs])


def reached(runs: Sequence[dict[str, Any]], target: float, axis: Axis) -> Reached:
    """Return the training that the runs of one system needed to reach the AP ``target``."""
    needed = [place for run in runs if (place := first_at(run["evaluations"], target, axis)) is not None]
    return Reached(Spread.of(needed) if needed else None, len(needed), len(runs))


def first_at(evaluations: Sequence[dict[str, Any]], target: float, axis: Axis) -> float | None:
    """Return the amount of training at which a run first reaches the AP ``target``, or None.

    The AP is interpolated linearly between evaluations and starts at 0.
    """
    before, ap_before = 0.0, 0.0
    for evaluation in evaluations:
        place, ap = evaluation[axis], evaluation["AP"]
        if ap >= target:
            rise = ap - ap_before
            return place if rise <= 0 else before + (place - before) * max(0.0, target - ap_before) / rise
        before, ap_before = place, ap
    return None


def ap_at(evaluations: Sequence[dict[str, Any]], place: float, axis: Axis) -> float | None:
    """Return the interpolated AP after ``place`` images or seconds, or None beyond the last evaluation."""
    places = [0.0, *(evaluation[axis] for evaluation in evaluations)]
    aps = [0.0, *(evaluation["AP"] for evaluation in evaluations)]
    return float(np.interp(place, places, aps)) if place <= places[-1] else None


def along(runs: Sequence[dict[str, Any]], place: float, axis: Axis) -> Spread | None:
    """Return the statistics of the AP after ``place`` images or seconds, or None if a run ended before."""
    values = [ap_at(run["evaluations"], place, axis) for run in runs]
    known = [value for value in values if value is not None]
    return Spread.of(known) if len(known) == len(values) else None


def better_peer(by_system: dict[str, list[dict[str, Any]]], *, ours: str) -> tuple[str, float] | None:
    """Return the peer with the highest mean final AP, and that AP; None without peers."""
    peers = {name: at_the_end(runs, "AP").mean for name, runs in by_system.items() if name != ours}
    if not peers:
        return None
    best = max(peers, key=peers.__getitem__)
    return best, peers[best]
