"""Compare our detector with its peers on equal data, backbone, input size, seeds and training time.

    python -m benchmarks.accuracy --data bccd --split test --output outputs/accuracy
    python -m benchmarks.accuracy --data bccd --split test --preset gpu --output outputs/accuracy_gpu
    python -m benchmarks.accuracy --output outputs/accuracy_sample --budget 100
    python -m benchmarks.accuracy --data bccd --systems ours deformable_detr --output outputs/accuracy

Every system trains the same backbone architecture from random weights, with the same seeds and for the same time. The
schedule of our detector has epochs, so our detector first measures its throughput and plans the epochs that fit. Preset
cpu takes just under 90 minutes on two cores: 15 runs of 300 seconds and their evaluations. It trains a ViT of width 192
with 6 layers at 224 pixels (256 tokens). Preset gpu trains ViT-S at 448 pixels (1,024 tokens).

``--data`` is a folder with ``train/``, ``val/`` and ``annotations/instances_{train,val}.json``. ``--split`` names
another split than val; compare settings on a split that did not choose them. Without ``--data`` the benchmark uses
the demo data set. RF-DETR runs in its own environment: the benchmark creates one in the user's cache (about 6 GB), or
``--rfdetr_python`` names one.

The output folder gets ``accuracy.md`` and ``accuracy.json``. Finished runs are kept: the same command continues an
interrupted comparison, and later systems or seeds join the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.accuracy import runs, table
from benchmarks.accuracy.job import Job
from benchmarks.accuracy.systems import OURS, PRESETS, SYSTEMS
from benchmarks.common import machine
from benchmarks.common.command_line import command_parser
from benchmarks.common.rf_detr_environment import rf_detr_python
from dino_detector.commands.frame import run_command
from dino_detector.data.demo_set import DemoFiles, write_demo_set
from dino_detector.errors import InputError
from dino_detector.models.device import resolve_precision
from dino_detector.storage.files import write_whole

PATCH = 14


def main() -> None:
    """Start the missing runs, and write the page."""
    options = _options()
    preset = PRESETS[options.preset]
    settings = yaml.safe_load(Path(__file__).with_name(preset.settings).read_text(encoding="utf-8"))
    budget = options.budget or preset.budget
    device = options.device or preset.device
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: there is no GPU here that torch can use; give --preset cpu")
    settings["precision"] = resolve_precision("auto", torch.device(device))
    options.output.mkdir(parents=True, exist_ok=True)
    files = _data(options.data, options.split, options.output)
    backbone = {key: value for key, value in settings["backbone_architecture"].items() if key != "image_size"}
    systems = options.systems or list(preset.systems)
    needs_rf_detr = any(SYSTEMS[name].own_environment for name in systems)
    peer_python = rf_detr_python(options.rfdetr_python) if needs_rf_detr else None

    results: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for seed in options.seeds:  # the outer loop, so that an interrupted comparison has a run of each system
        for name in systems:
            job = Job(
                system=name,
                seed=seed,
                **{field: str(path.resolve()) for field, path in files._asdict().items()},
                backbone=backbone,
                image_size=settings["image_size"],
                budget=budget,
                calibration=min(20.0, budget / 4),
                evaluations=options.evaluations,
                device=device,
                workers=settings["num_workers"],
                settings=settings if name == OURS else SYSTEMS[name].settings,
                folder=str((options.output / "runs" / f"{name}-{seed}").resolve()),
            )
            python = peer_python if SYSTEMS[name].own_environment else Path(sys.executable)
            results[name].append(_result(job, python=python, threads=options.threads))

    facts = {
        "data": f"{options.data.name}, {options.split}" if options.data else "demo data set",
        "input": f"{settings['image_size']} pixels, {(settings['image_size'] // PATCH) ** 2:,} tokens",
        "backbone": "DINOv2 with random weights, " + ", ".join(f"{key} {value}" for key, value in backbone.items()),
        "budget": f"{budget:g} s of training a run, seeds {', '.join(map(str, options.seeds))}",
        "device": f"{device}, {options.threads} threads",
        **machine.describe(device, rf_detr_python=peer_python),
    }
    page = table.page(results, facts=facts)
    write_whole(options.output / "accuracy.md", page)
    everything = {"facts": facts, "runs": [result for of_one in results.values() for result in of_one]}
    write_whole(options.output / "accuracy.json", json.dumps(everything, indent=2) + "\n")
    print(f"\n{page}")


def _result(job: Job, *, python: Path, threads: int) -> dict[str, Any]:
    """Return the result of a finished run, or run the job."""
    result = runs.finished(job)
    if result is None:
        shutil.rmtree(job.folder, ignore_errors=True)  # files of an unfinished run
        print(f"{job.system}, seed {job.seed}: {job.budget:g} s of training ...", flush=True)
        result = runs.run(job, python=python, module=SYSTEMS[job.system].module, threads=threads)
    last = result["evaluations"][-1]
    print(
        f"{job.system}, seed {job.seed}: AP {last['AP']:.3f}, AP50 {last['AP50']:.3f}, "
        f"{last['images_seen']:,} images in {last['seconds']:.0f} s",
        flush=True,
    )
    return result


def _data(folder: Path | None, split: str, output: Path) -> DemoFiles:
    """Return the files of a data folder; without one, write the demo data set and return its files."""
    if folder is None:
        return write_demo_set(output / "sample")
    files = DemoFiles(
        train_images=folder / "train",
        train_annotations=folder / "annotations" / "instances_train.json",
        val_images=folder / split,
        val_annotations=folder / "annotations" / f"instances_{split}.json",
    )
    for path in files:
        if not path.exists():
            raise InputError(f"--data {folder}: {path} is missing")
    return files


def _options() -> argparse.Namespace:
    parser = command_parser("benchmarks.accuracy", __doc__)
    parser.add_argument("--data", type=Path, help="COCO folder (default: the demo data set)")
    parser.add_argument("--split", default="val", help="split of --data to evaluate on (default: val)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the page, the results and the runs")
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="size of model and machine (default: cpu)")
    parser.add_argument("--budget", type=_positive, help="training time of a run, in seconds (default: by preset)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run for each (default: 0 1 2)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="rows of the table (default: by preset)")
    parser.add_argument("--evaluations", type=int, default=8, help="evaluations of a run (default: 8)")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: by preset)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a run (default: all)")
    parser.add_argument("--rfdetr_python", type=Path, help="interpreter of an environment with rfdetr[train]")
    return parser.parse_args()


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return value


if __name__ == "__main__":
    sys.exit(run_command(main))
