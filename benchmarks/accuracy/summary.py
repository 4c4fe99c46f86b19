"""What runs add up to: means and standard deviations over seeds, and when a run reached an AP."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Axis = Literal["images_seen", "seconds"]


class Spread(NamedTuple):
    """Mean and sample standard deviation (divided by n - 1); no deviation where there is one value."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Those of at least one value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


class Reached(NamedTuple):
    """How far runs had come when they reached an AP: of those that did, and how many these are."""

    spread: Spread | None
    runs: int
    of: int


def at_the_end(runs: Sequence[dict[str, Any]], name: str) -> Spread:
    """A metric, ``seconds`` or ``images_seen`` of the last evaluation, over the runs of one system."""
    return Spread.of([run["evaluations"][-1][name] for run in runs])


def reached(runs: Sequence[dict[str, Any]], target: float, axis: Axis) -> Reached:
    """Images or seconds of training that the runs of one system needed to reach an AP."""
    needed = [place for run in runs if (place := first_at(run["evaluations"], target, axis)) is not None]
    return Reached(Spread.of(needed) if needed else None, len(needed), len(runs))


def first_at(evaluations: Sequence[dict[str, Any]], target: float, axis: Axis) -> float | None:
    """Where the AP along a run first reaches ``target``, on straight lines between evaluations; None if nowhere.

    Training starts at 0 with an AP of 0.
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
    """The AP after so many images or seconds, on straight lines between evaluations; None after the last."""
    before, ap_before = 0.0, 0.0
    for evaluation in evaluations:
        if evaluation[axis] >= place:
            return ap_before + (evaluation["AP"] - ap_before) * (place - before) / (evaluation[axis] - before)
        before, ap_before = evaluation[axis], evaluation["AP"]
    return None


def along(runs: Sequence[dict[str, Any]], place: float, axis: Axis) -> Spread | None:
    """The AP of one system's runs after so many images or seconds; None where one of them had ended before."""
    values = [ap_at(run["evaluations"], place, axis) for run in runs]
    known = [value for value in values if value is not None]
    return Spread.of(known) if len(known) == len(values) else None


def better_peer(by_system: dict[str, list[dict[str, Any]]], *, ours: str) -> tuple[str, float] | None:
    """The peer with the highest mean AP at the end, and that AP; None without peers."""
    peers = {name: at_the_end(runs, "AP").mean for name, runs in by_system.items() if name != ours}
    if not peers:
        return None
    best = max(peers, key=peers.__getitem__)
    return best, peers[best]
