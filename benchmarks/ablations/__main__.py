"""What each part of a recipe brings: runs that differ from it in one part, several seeds each, as a table.

    python -m benchmarks.ablations --data bccd --config benchmarks/ablations/recipe_cpu.yaml --variants benchmarks/ablations/ablations.yaml
    python -m benchmarks.ablations --data bccd --output outputs/ablations_adapters \
        --config benchmarks/ablations/adapters_cpu.yaml --variants benchmarks/ablations/adapters.yaml

``--data`` is a folder with ``train/``, ``val/`` and ``annotations/instances_{train,val}.json``. The variants are a YAML
file: for each name the settings that differ from ``--config``. All runs have the same number of epochs. A run that is
finished is not run again, so that variants can be added and an interrupted table be gone on with.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.accuracy.runs import require_equal
from benchmarks.common import machine
from benchmarks.common.machine import revision
from dino_detector.commands.frame import run_command
from dino_detector.errors import InputError


class Result(NamedTuple):
    """The last evaluation of a run."""

    AP: float
    AP50: float
    APs: float
    seconds_per_image: float
    revision: str
    """commit of this repository that trained"""


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set in COCO format")
    parser.add_argument("--config", type=Path, required=True, help="YAML with the settings of the recipe")
    parser.add_argument(
        "--variants", type=Path, required=True, help="YAML: name of a variant to the settings it changes"
    )
    parser.add_argument("--only", nargs="*", help="run and show these variants only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, which share the cores")
    parser.add_argument("--output", type=Path, default=Path("outputs/ablations"))
    options = parser.parse_args()

    recipe = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    if options.epochs:
        recipe["epochs"] = options.epochs
    variants = {"recipe": {}} | (yaml.safe_load(options.variants.read_text(encoding="utf-8")) or {})
    if options.only:
        variants = {name: changes for name, changes in variants.items() if name in options.only or name == "recipe"}
    jobs = [(name, seed) for seed in options.seeds for name in variants]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    pool = ThreadPoolExecutor(options.jobs)
    found = [
        pool.submit(run, recipe | variants[name], seed, options.data, options.output / name / str(seed), threads)
        for name, seed in jobs
    ]
    results: dict[str, list[Result]] = {}
    try:
        for (name, _), future in zip(jobs, found, strict=True):
            results.setdefault(name, []).append(future.result())
    finally:
        pool.shutdown(cancel_futures=True)  # where one has failed; what others have finished stays
    revisions = sorted({result.revision for of_one in results.values() for result in of_one})
    print(f"{table(results)}\n\n{describe_runs(options.seeds, recipe['epochs'], revisions)}")


def run(settings: dict[str, Any], seed: int, data: Path, folder: Path, threads: int) -> Result:
    """Train in a process of its own, unless that has been done; returns the last evaluation.

    Raises:
        InputError: the run failed, or the folder has a run with other settings.
    """
    files = {
        f"{split}_{kind}": str(data / place)
        for split in ("train", "val")
        for kind, place in (("images", split), ("annotations", f"annotations/instances_{split}.json"))
    }
    chosen = settings | files | {"seed": seed, "output_dir": str(folder)}
    stated, trained_by, log = folder / "run.yaml", folder / "revision.txt", folder / "run.log"
    newest = folder / f"val_metrics_epoch_{settings['epochs']}.json"
    if newest.exists():
        require_equal(yaml.safe_load(stated.read_text(encoding="utf-8")), chosen, place=folder, folder=folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        stated.write_text(yaml.safe_dump(chosen), encoding="utf-8")
        trained_by.write_text(f"{revision()}\n", encoding="utf-8")
        command = [sys.executable, "-m", "dino_detector.train", "--config", stated]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with log.open("w", encoding="utf-8") as output:
            if subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode:
                last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                raise InputError(f"a run failed; {log} ends with: {last}")
    metrics = json.loads(newest.read_text(encoding="utf-8"))
    pace = 1 / metrics["images_per_second"]
    return Result(metrics["AP"], metrics["AP50"], metrics["APs"], pace, trained_by.read_text(encoding="utf-8").strip())


def describe_runs(seeds: Sequence[int], epochs: int, revisions: Sequence[str]) -> str:
    """What is to be said of the numbers in the table."""
    return (
        f"Seeds {', '.join(map(str, seeds))}; {epochs} epochs; means ± standard deviation (n - 1); "
        f"{machine.processor_name()}, {datetime.date.today():%d %B %Y}, dinov2-od {', '.join(revisions)}"
    )


def table(results: dict[str, list[Result]]) -> str:
    """Means over the seeds in Markdown, with what a variant changes, seed by seed, and its standard deviation."""
    recipe = results["recipe"]
    lines = ["| variant | AP | change of AP | AP50 | APs | time per image |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        changes = [one.AP - base.AP for one, base in zip(found, recipe, strict=True)]
        change = "" if name == "recipe" else f"{statistics.mean(changes):+.3f} ± {_spread(changes):.3f}"
        pace = statistics.mean(one.seconds_per_image for one in found) / statistics.mean(
            one.seconds_per_image for one in recipe
        )
        means = [statistics.mean(getattr(one, column) for one in found) for column in ("AP", "AP50", "APs")]
        spread = _spread([one.AP for one in found])
        lines.append(
            f"| {name} | {means[0]:.3f} ± {spread:.3f} | {change} | {means[1]:.3f} | {means[2]:.3f} | {pace:.2f} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(run_command(main))
