"""Compare speed and memory with RF-DETR nano at the same number of image tokens, on this machine.

    python -m benchmarks.speed
    python -m benchmarks.speed --only latency matching --rounds 5
    python -m benchmarks.speed --only headline --rounds 1

Our detector has dinov2-small at 336 pixels (576 tokens), a decoder of RF-DETR nano's size (300 queries, two layers of
width 256), and adapters on the last two layers of the backbone. Other rows have the lightweight preset at the same
input size. Weights are random, which costs the same as trained ones. Every measurement runs in its own process. Ours
and the peer's alternate over the rounds, and a ratio is the median of the ratios of the rounds.

RF-DETR runs in its own environment: the benchmark creates one in the user's cache (about 6 GB), or ``--rfdetr_python``
names one. The rows ``headline`` and ``headline_frozen`` are whole training runs of up to hours, and run only if
``--only`` names them.
"""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.common import machine
from benchmarks.common.command_line import command_parser
from benchmarks.common.rf_detr_environment import rf_detr_python
from benchmarks.speed.large import write_large
from benchmarks.speed.process import Measurement, measure_in_process
from benchmarks.speed.rows import WHOLE_RUNS, rows_of
from benchmarks.speed.scenes import write_scenes
from benchmarks.speed.table import table
from dino_detector.commands.frame import run_command
from dino_detector.errors import InputError
from dino_detector.models.device import resolve_precision


def main() -> None:
    """Print the table."""
    names = list(rows_of({"train_images": ""}, {}, {}, best="32"))
    default = [name for name in names if name not in WHOLE_RUNS]
    parser = command_parser("benchmarks.speed", __doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=default, help="rows to measure")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of every measurement (default: 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a measurement (default: all)")
    parser.add_argument("--rfdetr_python", type=Path, help="interpreter of an environment with rfdetr[train]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_scenes(Path(folder, "scenes"), images=96, boxes=10)
        large = write_large(Path(folder, "large")) if "start" in options.only else {}
        whole = not WHOLE_RUNS.keys().isdisjoint(options.only)
        thousand = write_scenes(Path(folder, "thousand"), images=1000, boxes=10) if whole else {}
        by_name = rows_of(data, large, thousand, best=resolve_precision("auto", torch.device("cpu")))
        rows = [row for name in options.only for row in by_name[name]]
        needs_rf_detr = any(row.peer is not None and row.peer.module == "rf_detr" for row in rows)
        peer_python = rf_detr_python(options.rfdetr_python) if needs_rf_detr else None

        def measure(measurement: Measurement) -> dict[str, float]:
            python = peer_python if measurement.module == "rf_detr" else None
            return measure_in_process(measurement, python=python or Path(sys.executable), threads=options.threads)

        lines = table(rows, measure, rounds=options.rounds)
        print(lines)
    facts = machine.describe("cpu", rf_detr_python=peer_python)
    print(f"\n{options.threads} threads, {options.rounds} rounds, {datetime.date.today():%d %B %Y}")
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    if "| failed |" in lines:
        raise InputError("some measurements failed, see above; run them again with --only")


if __name__ == "__main__":
    sys.exit(run_command(main))
