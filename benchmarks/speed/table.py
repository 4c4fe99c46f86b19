"""The table of measurements and their targets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.speed.process import Measurement
from dino_detector.errors import InputError


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        title: text of the row.
        number: name of the compared number in the reports of the measurements.
        target: bound such as ``>= 4`` or ``<= 0.25`` on the ratio of ours to the peer's number, or on our number if
            there is no peer; empty for none.
        ours: measurement of this repository.
        peer: measurement to compare with.
    """

    title: str
    number: str
    target: str
    ours: Measurement
    peer: Measurement | None = None


def table(rows: list[Row], measure: Callable[[Measurement], dict[str, float]], *, rounds: int) -> str:
    """Return a Markdown table of medians over rounds; a ratio is the median of the ratios of the rounds.

    Rows can share a measurement, which runs once in each round. A measurement that fails prints its error and does not
    run again, and its rows say ``failed``. The other rows keep their results, which may have taken hours.
    """
    pending = {repr(one): one for row in rows for one in (row.ours, row.peer) if one is not None}
    found: dict[str, list[dict[str, float]]] = {key: [] for key in pending}
    for number in range(rounds):
        for key, measurement in list(pending.items()):
            text = f"{measurement.module}, {measurement.name}, {measurement.title}"
            print(f"round {number + 1}: {text}", file=sys.stderr)
            try:
                found[key].append(measure(measurement))
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                del pending[key]
    lines = ["| | ours | peer | ratio | target | |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        if any(repr(one) not in pending for one in (row.ours, row.peer) if one is not None):
            lines.append(f"| {row.title} | | | | {row.target} | failed |")
            continue
        ours = [measured[row.number] for measured in found[repr(row.ours)]]
        peers = [] if row.peer is None else [measured[row.number] for measured in found[repr(row.peer)]]
        ratios = [one / other for one, other in zip(ours, peers, strict=True)] if peers else ours
        reached = "" if not row.target else "reached" if is_reached(median(ratios), row.target) else "missed"
        peer = _text(median(peers), row.number) if peers else ""
        ratio = f"{median(ratios):.2f}" if peers else ""
        cells = [row.title, _text(median(ours), row.number), peer, ratio, row.target, reached]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def is_reached(value: float, target: str) -> bool:
    """Return whether a number satisfies a target such as ``>= 4``."""
    relation, limit = target.split()
    return value >= float(limit) if relation == ">=" else value <= float(limit)


def _text(value: float, number: str) -> str:
    if number == "seconds":
        return f"{1000 * value:.0f} ms" if value < 2 else f"{value:.1f} s"
    return f"{value / 2**30:.2f} GiB" if number.endswith("_bytes") else f"{value:.2f}"
