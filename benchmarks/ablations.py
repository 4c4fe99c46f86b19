"""What each part of a recipe brings: runs that differ from it in one part, several seeds each, as a table.

    python benchmarks/ablations.py --data bccd --config benchmarks/recipe_cpu.yaml --variants benchmarks/ablations.yaml
    python benchmarks/ablations.py --data bccd --config benchmarks/adapters_cpu.yaml --variants benchmarks/adapters.yaml

``--data`` is a folder with ``train/``, ``val/`` and ``annotations/instances_{train,val}.json``. The variants are a YAML
file: for each name the settings that differ from ``--config``. All runs have the same number of epochs. A run that is
finished is not run again, so that variants can be added and an interrupted table be gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Result(NamedTuple):
    """The last evaluation of a run."""

    AP: float
    AP50: float
    APs: float
    seconds_per_image: float


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
    with ThreadPoolExecutor(options.jobs) as pool:
        found = [
            pool.submit(run, recipe | variants[name], seed, options.data, options.output / name / str(seed), threads)
            for name, seed in jobs
        ]
    results: dict[str, list[Result]] = {}
    for (name, _), future in zip(jobs, found, strict=True):
        results.setdefault(name, []).append(future.result())
    print(table(results))


def run(settings: dict[str, Any], seed: int, data: Path, folder: Path, threads: int) -> Result:
    """Train in a process of its own, unless that has been done; returns the last evaluation."""
    newest = folder / f"val_metrics_epoch_{settings['epochs']}.json"
    if not newest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            f"{split}_{kind}": str(data / place)
            for split in ("train", "val")
            for kind, place in (("images", split), ("annotations", f"annotations/instances_{split}.json"))
        }
        chosen = settings | files | {"seed": seed, "output_dir": str(folder)}
        (folder / "run.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
        with (folder / "run.log").open("w", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, "-m", "dino_detector.train", "--config", folder / "run.yaml"],
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
    metrics = json.loads(newest.read_text(encoding="utf-8"))
    return Result(metrics["AP"], metrics["AP50"], metrics["APs"], 1 / metrics["images_per_second"])


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
    main()
