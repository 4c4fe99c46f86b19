"""Measure time and memory of a training step against tokens, queries, feature levels and batch size.

    python -m benchmarks.costs.growth
    python -m benchmarks.costs.growth --picture docs/images/growth.png

The benchmark measures the detector of `benchmarks.speed`. The table and the chart also have a lower bound of each
number: the operations of a step at this machine's rate for large matrix products, and the bytes of weights, gradients,
optimizer state and saved tensors. Each point is measured in its own process.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.common import machine
from benchmarks.common.command_line import command_parser
from benchmarks.speed.process import Measurement, measure_in_process
from benchmarks.speed.rows import BATCH, INPUT, SIZES
from dino_detector.commands.frame import run_command
from dino_detector.models.device import resolve_precision

PATCH = 14
BOXES = 10
"""boxes per image"""


class Axis(NamedTuple):
    """A size that grows; each point has a label, changed settings and a batch size."""

    name: str
    points: tuple[tuple[str, dict[str, Any], int], ...]


AXES = (
    Axis(
        "tokens",
        tuple((f"{(side // PATCH) ** 2}", {"image_size": side}, BATCH) for side in (168, 252, 336, 420, 504)),
    ),
    Axis("queries", tuple((f"{count}", {"num_queries": count}, BATCH) for count in (100, 300, 600, 900))),
    Axis(
        "levels",
        tuple(
            (f"{len(scales)}", {"feature_scales": scales}, BATCH)
            for scales in ([1.0], [1.0, 0.5], [2.0, 1.0, 0.5], [2.0, 1.0, 0.5, 0.25])
        ),
    ),
    Axis("batch", tuple((f"{batch}", {}, batch) for batch in (1, 2, 4, 8))),
)


class Point(NamedTuple):
    """Measured time and memory of a step, and their lower bounds."""

    label: str
    seconds: float
    least_seconds: float
    memory_bytes: float
    kept_bytes: float


def main() -> None:
    """Print the table, and draw the chart if ``--picture`` is given."""
    parser = command_parser("benchmarks.costs.growth", __doc__)
    parser.add_argument("--picture", type=Path, help="PNG file for a chart")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a process (default: all)")
    options = parser.parse_args()
    precision = resolve_precision("auto", torch.device("cpu"))

    def measured(title: str, name: str, **settings: Any) -> dict[str, float]:
        print(title, file=sys.stderr)
        measurement = Measurement(title, "ours", name, settings)
        return measure_in_process(measurement, python=Path(sys.executable), threads=options.threads)

    rate = measured("matrix product", "matrix_rate", precision=precision)["operations_per_second"]
    found: dict[str, list[Point]] = {}
    for axis in AXES:
        for label, changes, batch in axis.points:
            settings = SIZES | INPUT | {"precision": precision} | changes
            step = measured(f"{axis.name} {label}", "step", settings=settings, batch=batch, boxes=BOXES)
            least = step["operations"] / rate
            point = Point(label, step["seconds"], least, step["memory_bytes"], step["kept_bytes"])
            found.setdefault(axis.name, []).append(point)
    print(table(found))
    facts = machine.describe("cpu", rf_detr_python=None)
    print(f"\nprecision {precision}, {options.threads} threads, matrix product {rate / 1e9:.0f} GFLOP/s")
    print(f"{datetime.date.today():%d %B %Y}")
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    if options.picture:
        draw(found, options.picture)


def table(found: dict[str, list[Point]]) -> str:
    """Return the table in Markdown."""
    lines = ["| | | time | operations at the matrix rate | memory | kept |", "|---|---:|---:|---:|---:|---:|"]
    for name, points in found.items():
        for point in points:
            times = (f"{seconds:.2f} s" for seconds in (point.seconds, point.least_seconds))
            sizes = (f"{amount / 2**30:.2f} GiB" for amount in (point.memory_bytes, point.kept_bytes))
            lines.append(f"| {name} | {point.label} | {' | '.join(times)} | {' | '.join(sizes)} |")
    return "\n".join(lines)


def draw(found: dict[str, list[Point]], path: Path) -> None:
    """Draw a chart with two rows of panels, time and memory, and a column for each axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, len(found), figsize=(3.2 * len(found), 5.6), layout="constrained", sharey="row")
    for column, (name, points) in enumerate(found.items()):
        places = [float(point.label) for point in points]
        for row, (unit, scale, seen, least) in enumerate(
            (
                ("seconds a step", 1.0, "seconds", "least_seconds"),
                ("GiB", 2.0**30, "memory_bytes", "kept_bytes"),
            )
        ):
            panel = panels[row, column]
            panel.plot(places, [getattr(point, seen) / scale for point in points], "o-", label="measured")
            panel.plot(places, [getattr(point, least) / scale for point in points], "--", label="at least")
            panel.set_xticks(places, [point.label for point in points])
            panel.grid(alpha=0.3)
            if row:
                panel.set_xlabel(name)
            if not column:
                panel.set_ylabel(unit)
    for panel in panels[:, 0]:
        panel.set_ylim(bottom=0)  # panels of a row share this axis
    panels[0, 0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(run_command(main))
