"""Speed and memory beside RF-DETR nano, at the same number of image tokens, on this machine.

    python -m benchmarks.speed
    python -m benchmarks.speed --only latency matching --rounds 5
    python -m benchmarks.speed --only headline --rounds 1

Ours is a detector of dinov2-small at 336 pixels (576 tokens) of RF-DETR nano's decoder size: 300 queries and two layers
of width 256, adapters on the last two layers of the backbone; and the lightweight preset at the same input. Both have
random weights, which cost the same. Every measurement runs in a process of its own, ours and the peer's in turn, so
many rounds; a ratio is the median of those of the rounds. RF-DETR runs in an environment of its own, which is made once
in the user's cache (about 6 GB), or is given by ``--rfdetr_python``. Whole runs, ``headline`` and ``headline_frozen``,
take up to hours and are made where they are asked for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.accuracy.runs import environment
from benchmarks.common import machine
from benchmarks.common.rf_detr_environment import rf_detr_python
from benchmarks.speed.clock import MARK
from benchmarks.speed.large import write_large
from benchmarks.speed.scenes import write_scenes
from dino_detector.commands.frame import run_command
from dino_detector.config.presets import LIGHTWEIGHT
from dino_detector.errors import InputError
from dino_detector.models.precision import resolve_precision

BATCH = 4
WHOLE_RUNS: dict[str, dict[str, Any]] = {"headline": {}, "headline_frozen": {"train_backbone": "none"}}
"""rows that are whole runs, and what they change of the preset"""
EPOCHS = 20
"""of a whole run"""
SIZES: dict[str, Any] = {"num_queries": 300, "decoder_layers": 2, "lora_layers": 2}
INPUT: dict[str, Any] = {"dino_model": "facebook/dinov2-small", "image_size": 336}


@dataclass(frozen=True)
class Measurement:
    """A process that measures one number."""

    title: str
    module: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What is compared, and with what aim.

    Attributes:
        title: what.
        number: of what the measurements report.
        target: of the ratio of ours to the peer's: ``>= 4`` or ``<= 0.25``; of the number itself without a peer.
        ours: the measurement of this repository.
        peer: the other one.
    """

    title: str
    number: str
    target: str
    ours: Measurement
    peer: Measurement | None = None


def rows_of(
    data: dict[str, str], large: dict[str, str], thousand: dict[str, str], *, best: str
) -> dict[str, list[Row]]:
    """All rows, by the name that ``--only`` takes; of a small data set, of one of COCO's size and of 1,000 images."""
    picture = str(Path(data["train_images"], "000001.jpg"))
    steps = {"warm_up": 3, "steps": 12}

    def trains(
        title: str, *, precision: str, filled: bool = False, lightweight: bool = False, **changes: Any
    ) -> Measurement:
        settings = _sizes(lightweight=lightweight) | _run(data) | {"precision": precision} | changes
        return Measurement(title, "ours", "training", {"settings": settings, "filled": filled} | steps)

    def peer_trains(title: str, **model: Any) -> Measurement:
        return Measurement(title, "rf_detr", "training", {"data": data, "batch": BATCH, "model": model} | steps)

    def detects(title: str, *, lightweight: bool = False, **asked: Any) -> Measurement:
        return Measurement(
            title, "ours", "latency", {"settings": _sizes(lightweight=lightweight), "picture": picture, **asked}
        )

    of_light = "training of the lightweight preset"
    whole, one_group = peer_trains("RF-DETR, LoRA", backbone_lora=True), peer_trains("RF-DETR, 1 group", group_detr=1)
    ours, ours_32 = trains(f"ours, {best}", precision=best), trains("ours, 32", precision="32")
    cached, light = (
        trains("ours, cached", precision=best, filled=True),
        trains("light", precision=best, lightweight=True),
    )
    dtypes = {"bf16": "bfloat16", "32": "float32"}
    peer_detects, peer_detects_32 = (
        Measurement(f"RF-DETR, {name}", "rf_detr", "latency", {"picture": picture, "dtype": dtypes[name]})
        for name in (best, "32")
    )
    layer = {"batch": 16, "queries": 300, "boxes": 100}
    loading = _sizes(lightweight=False) | data | {"batch_size": BATCH, "num_workers": 0}
    scored = {"images": 5000, "detections": 100}
    small = SIZES | {"dino_model": "dinov2-demo", "image_size": 112, "batch_size": BATCH, "num_workers": 2}
    starts = Measurement("start", "start", "train", {"settings": small | large})
    whole_run = _sizes(lightweight=True) | _run(thousand) | {"precision": best, "epochs": EPOCHS}
    return {
        **{
            name: [
                Row(
                    f"1,000 images, {EPOCHS} epochs, lightweight preset{_text_of(changes)}, filling the cache",
                    *("seconds", "<= 1200"),
                    Measurement(name, "ours", "whole_run", {"settings": whole_run | changes}),
                )
            ]
            for name, changes in WHOLE_RUNS.items()
        },
        "training": [
            Row("training, images/s", "images_per_second", ">= 9", ours, whole),
            Row("training, images/s, against 1 group", "images_per_second", ">= 4", ours, one_group),
            Row("training in float32, images/s", "images_per_second", ">= 5", ours_32, whole),
            Row(f"{of_light}, images/s", "images_per_second", ">= 9", light, whole),
            Row(f"{of_light}, images/s, against 1 group", "images_per_second", ">= 4", light, one_group),
            Row("peak memory in training", "peak_memory_bytes", "<= 0.25", ours, whole),
            Row("peak memory in training, against 1 group", "peak_memory_bytes", "<= 0.5", ours, one_group),
            Row(f"peak memory in {of_light}", "peak_memory_bytes", "<= 0.25", light, whole),
            Row(f"peak memory in {of_light}, against 1 group", "peak_memory_bytes", "<= 0.5", light, one_group),
        ],
        "cache": [
            Row("training from the trunk cache, images/s", "images_per_second", ">= 30", cached, whole),
            Row(
                "training from the trunk cache, images/s, against 1 group",
                "images_per_second",
                ">= 13",
                cached,
                one_group,
            ),
            *(
                Row(
                    f"{of_light}{title} from the trunk cache, images/s{beside}",
                    *("images_per_second", target),
                    trains(f"light, cached{title}", precision=best, filled=True, lightweight=True, **changes),
                    peer,
                )
                for title, changes in (("", {}), (" without adapters", {"train_backbone": "none"}))
                for beside, target, peer in (("", ">= 30", whole), (", against 1 group", ">= 13", one_group))
            ),
        ],
        "latency": [
            Row("a picture", "seconds", "<= 0.4", detects(f"ours, {best}", precision=best), peer_detects),
            Row("a picture in float32", "seconds", "<= 0.8", detects("ours, 32", precision="32"), peer_detects_32),
            Row(
                *("a picture, lightweight preset", "seconds", "<= 0.4"),
                *(detects("light", precision=best, lightweight=True), peer_detects),
            ),
        ],
        "export": [
            Row(
                *(f"a picture, exported to {suffix} in {exported}", "seconds", "<= 0.25"),
                *(detects(f"{suffix}, {exported}", precision="32", suffix=suffix, exported=exported), peer_detects),
            )
            for suffix, exported in ((".onnx", "32"), (".onnx", "int8"), (".xml", "32"))
        ],
        "group": [
            Row(
                *(f"one more detector{title} on a trunk, share of one alone", "share", "<= 0.2"),
                Measurement(
                    *(f"group{title}", "ours", "group"),
                    {"settings": settings, "picture": picture, "precision": best, "detectors": 4},
                ),
            )
            for title, settings in (
                ("", _sizes(lightweight=False)),
                (", lightweight preset", _sizes(lightweight=True)),
                (", lightweight preset without adapters,", _sizes(lightweight=True) | {"train_backbone": "none"}),
            )
        ],
        "matching": [
            Row(
                *("matching, a layer of 16 images of 100 boxes", "seconds", "<= 1"),
                *(Measurement("ours", "ours", "matching", layer), Measurement("peer", "rf_detr", "matching", layer)),
            )
        ],
        "pipeline": [
            Row(
                *("from files to batches on one core, images/s", "images_per_second", ">= 1.5"),
                Measurement("ours", "ours", "pipeline", {"settings": loading, "images": 96}),
                Measurement("RF-DETR", "rf_detr", "pipeline", {"data": data, "batch": BATCH, "images": 96}),
            )
        ],
        "losses": [
            Row(
                *("matching and losses, share of a step of 16 images of 100 boxes", "share", "<= 0.05"),
                Measurement(
                    *("losses", "ours", "losses_share"),
                    {"settings": _sizes(lightweight=False) | {"precision": best}, "batch": 16, "boxes": 100},
                ),
            )
        ],
        "evaluation": [
            Row(
                *("evaluation of 5,000 images with 100 detections each, beside pycocotools", "seconds", "<= 0.1"),
                Measurement("ours", "evaluation", "ours", scored),
                Measurement("pycocotools", "evaluation", "pycocotools", scored),
            )
        ],
        "start": [
            Row("from the start to the first step with 118,287 images", "seconds", "<= 10", starts),
            Row("importing the libraries, of these", "seconds", "", Measurement("imports", "start", "imports")),
            Row("memory that a worker has of its own then", "worker_bytes", "", starts),
        ],
        "backbone": [
            Row(
                *("share of the matrix rate in the backbone", "share", ">= 0.6"),
                Measurement(
                    *("backbone", "ours", "backbone_share"),
                    {"settings": _sizes(lightweight=False), "precision": best, "batch": BATCH},
                ),
            )
        ],
    }


def _sizes(*, lightweight: bool) -> dict[str, Any]:
    return (LIGHTWEIGHT if lightweight else SIZES) | INPUT


def _text_of(changes: dict[str, Any]) -> str:
    return "".join(f" with --{name} {value}" for name, value in changes.items())


def _run(data: dict[str, str]) -> dict[str, Any]:
    """A training run without evaluation and logs."""
    return data | {"val_images": None, "val_annotations": None, "batch_size": BATCH, "num_workers": 0, "logger": []}


def main() -> None:
    """Print the table."""
    names = list(rows_of({"train_images": ""}, {}, {}, best="32"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in names if name not in WHOLE_RUNS]
    parser.add_argument("--only", nargs="+", choices=names, default=usual, help="these rows only")
    parser.add_argument("--rounds", type=int, default=3, help="of every measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="that a process computes with")
    parser.add_argument("--rfdetr_python", type=Path, help="interpreter of an environment that has rfdetr[train]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_scenes(Path(folder, "scenes"), images=96, boxes=10)
        large = write_large(Path(folder, "large")) if "start" in options.only else {}
        whole = not WHOLE_RUNS.keys().isdisjoint(options.only)
        thousand = write_scenes(Path(folder, "thousand"), images=1000, boxes=10) if whole else {}
        by_name = rows_of(data, large, thousand, best=resolve_precision("auto", torch.device("cpu")))
        rows = [row for name in options.only for row in by_name[name]]
        beside_rf_detr = any(row.peer is not None and row.peer.module == "rf_detr" for row in rows)
        peer_python = rf_detr_python(options.rfdetr_python) if beside_rf_detr else None

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


def table(rows: list[Row], measure: Callable[[Measurement], dict[str, float]], *, rounds: int) -> str:
    """Medians in Markdown; what several rows ask for is measured once a round.

    A measurement that fails is told and not repeated, and its rows say so: the others may have taken an hour.
    """
    left = {repr(one): one for row in rows for one in (row.ours, row.peer) if one is not None}  # that have not failed
    found: dict[str, list[dict[str, float]]] = {key: [] for key in left}
    for number in range(rounds):
        for key, measurement in list(left.items()):
            text = f"{measurement.module}, {measurement.name}, {measurement.title}"
            print(f"round {number + 1}: {text}", file=sys.stderr)
            try:
                found[key].append(measure(measurement))
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                del left[key]
    lines = ["| | ours | peer | ratio | target | |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        if any(repr(one) not in left for one in (row.ours, row.peer) if one is not None):
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
    """Whether a number is where a target such as ``>= 4`` wants it."""
    relation, limit = target.split()
    return value >= float(limit) if relation == ">=" else value <= float(limit)


def _text(value: float, number: str) -> str:
    if number == "seconds":
        return f"{1000 * value:.0f} ms" if value < 2 else f"{value:.1f} s"
    return f"{value / 2**30:.2f} GiB" if number.endswith("_bytes") else f"{value:.2f}"


def measure_in_process(measurement: Measurement, *, python: Path, threads: int) -> dict[str, float]:
    """What a process measures; raises `InputError` with the end of its output where it fails."""
    done = subprocess.run(
        [python, "-m", f"benchmarks.speed.{measurement.module}", measurement.name, json.dumps(measurement.settings)],
        capture_output=True,
        text=True,
        env=environment(threads),
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        end = " | ".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise InputError(f"{measurement.module}, {measurement.name} failed: {end}")
    return json.loads(lines[-1].removeprefix(MARK))


if __name__ == "__main__":
    sys.exit(run_command(main))
