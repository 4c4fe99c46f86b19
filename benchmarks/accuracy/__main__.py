"""Our detector and its peers: the same data, backbone, input, seeds and training time, on this machine.

    python -m benchmarks.accuracy --data bccd --split test --output outputs/accuracy
    python -m benchmarks.accuracy --data bccd --split test --preset gpu --output outputs/accuracy_gpu
    python -m benchmarks.accuracy --output outputs/accuracy_sample --budget 100
    python -m benchmarks.accuracy --data bccd --systems ours deformable_detr --output outputs/accuracy

Every system starts from the same architecture of backbone with random weights of the same seeds, and trains until the
same time has passed. Ours, whose schedule has epochs, measures its pace first and plans as many as fit. Preset cpu
takes just under 90 minutes on two cores: 15 runs of 300 seconds and their evaluations. It trains a ViT of width 192
with 6 layers at 224 pixels (256 tokens); preset gpu trains ViT-S at 448 pixels (1,024 tokens).

``--data`` is a folder with ``train/``, ``annotations/instances_train.json``, and ``val/`` and
``annotations/instances_val.json``, or another split than val that ``--split`` names: settings that were chosen on one
are to be compared on another. Without ``--data`` the sample that comes with the package is drawn. RF-DETR runs in an
environment of its own, which is made once in the user's cache (about 6 GB), or is given by ``--rfdetr_python``.

Writes ``accuracy.md`` and ``accuracy.json`` to the output folder. A run that has finished there is not run again, so an
interrupted comparison goes on with the same command, and later systems or seeds join the table.
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
from benchmarks.common.rf_detr_environment import rf_detr_python
from dino_detector.commands.frame import run_command
from dino_detector.data.demo_set import SampleFiles, write_sample
from dino_detector.errors import InputError
from dino_detector.models.precision import resolve_precision
from dino_detector.storage.files import write_whole

PATCH = 14


def main() -> None:
    """Run what has not been run, and write the page."""
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
    for seed in options.seeds:  # seeds outside, so that an interrupted comparison has a run of each system
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
        "data": f"{options.data.name}, {options.split}" if options.data else "the sample of this package",
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
    """Of an earlier call, or of a run."""
    result = runs.finished(job)
    if result is None:
        shutil.rmtree(job.folder, ignore_errors=True)  # of a run that did not finish
        print(f"{job.system}, seed {job.seed}: {job.budget:g} s of training ...", flush=True)
        result = runs.run(job, python=python, module=SYSTEMS[job.system].module, threads=threads)
    last = result["evaluations"][-1]
    print(
        f"{job.system}, seed {job.seed}: AP {last['AP']:.3f}, AP50 {last['AP50']:.3f}, "
        f"{last['images_seen']:,} images in {last['seconds']:.0f} s",
        flush=True,
    )
    return result


def _data(folder: Path | None, split: str, output: Path) -> SampleFiles:
    """The files of a data folder, or of the sample, which is drawn."""
    if folder is None:
        return write_sample(output / "sample")
    files = SampleFiles(
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="COCO folder; the package's sample where it is left out")
    parser.add_argument("--split", default="val", help="the part of --data that is evaluated on (default: val)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the page, the results and the runs")
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="size of model and machine (default: cpu)")
    parser.add_argument("--budget", type=_positive, help="seconds of training a run (default: the preset's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each (default: 0 1 2)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="rows of the table (default: the preset's)")
    parser.add_argument("--evaluations", type=int, default=8, help="evaluations along a run (default: 8)")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: the preset's)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads a run computes with (default: all)"
    )
    parser.add_argument("--rfdetr_python", type=Path, help="interpreter of an environment that has rfdetr[train]")
    return parser.parse_args()


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return value


if __name__ == "__main__":
    sys.exit(run_command(main))
