"""Measure whether labelling less works, on data sets with splits train, val and test in COCO format.

    python -m benchmarks.labelling DATA --only doubts
    python -m benchmarks.labelling DATA --only suggest --seeds 0 1 2

``doubts`` spoils 5 % of the training labels and counts how many of them are in the first tenth of the list. ``suggest``
simulates labelling, and compares the AP with the AP of random choice. Each row is a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.common.command_line import command_parser
from benchmarks.common.machine import describe
from benchmarks.labelling.doubts import measure
from benchmarks.labelling.saved import saved_labels
from benchmarks.labelling.suggest import simulate
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.errors import InputError

PARTS = ("doubts", "suggest")


def main() -> None:
    """Run the measurements, and write their rows and the facts of the machine to ``labelling.jsonl``."""
    parser = command_parser("benchmarks.labelling", __doc__)
    parser.add_argument("data", type=Path, nargs="+", help="folders of data sets")
    parser.add_argument("--only", choices=PARTS, help="one of the two measurements (default: both)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds (default: 0)")
    parser.add_argument("--epochs", type=int, default=24, help="epochs of each training of doubts (default: 24)")
    parser.add_argument("--images_seen", type=int, default=2000, help="images of a training of suggest (default: 2000)")
    parser.add_argument("--image_size", type=int, default=168, help="input size of suggest in pixels (default: 168)")
    parser.add_argument("--output", type=Path, default=Path("outputs/labelling"), help="folder for all files")
    options = parser.parse_args()
    for data in options.data:
        if not (data / "annotations" / "instances_train.json").is_file():
            raise InputError(f"{data}: has no annotations/instances_train.json; give a data set in COCO's layout")
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    rows = [describe("cpu", rf_detr_python=None)]
    for data in options.data:
        if options.only != "suggest":
            for seed in options.seeds:
                rows.append(measure(data, seed=seed, epochs=options.epochs, folder=options.output))
                print(json.dumps(rows[-1]), flush=True)
        if options.only != "doubts":
            folder = options.output / f"suggest_{data.name}"
            how = {"images_seen": options.images_seen, "image_size": options.image_size, "folder": folder}
            of_data = [row for seed in options.seeds for row in simulate(data, seed=seed, **how)]
            rows += [*of_data, *saved_labels(of_data)]
            print("\n".join(json.dumps(row) for row in saved_labels(of_data)), flush=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (options.output / "labelling.jsonl").open("a", encoding="utf-8").write(lines)


if __name__ == "__main__":
    configure_logging()
    sys.exit(run_command(main))
