"""Train variants of a recipe with several seeds, and print a table of the differences.

    python -m benchmarks.ablations --data bccd --config benchmarks/ablations/recipe_cpu.yaml \\
        --variants benchmarks/ablations/ablations.yaml
    python -m benchmarks.ablations --data bccd --config benchmarks/ablations/adapters_cpu.yaml \\
        --variants benchmarks/ablations/adapters.yaml --output outputs/ablations_adapters

``--data`` is a folder with ``train/``, ``val/`` and ``annotations/instances_{train,val}.json``. The variants are a YAML
file with the settings that each variant changes of ``--config``. All runs have the same number of epochs. Finished runs
are kept: the same command continues an interrupted table, and new variants join it.
"""

from __future__ import annotations

import datetime
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from benchmarks.ablations.runs import Result, run, table
from benchmarks.common.command_line import command_parser
from benchmarks.common.machine import processor_name
from dino_detector.commands.frame import run_command


def main() -> None:
    """Start the missing runs, then print the table."""
    parser = command_parser("benchmarks.ablations", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set in COCO format")
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the settings of the recipe")
    parser.add_argument("--variants", type=Path, required=True, help="YAML file: variant to changed settings")
    parser.add_argument("--only", nargs="*", help="names of the variants to run and show (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run for each (default: 0 1 2)")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the recipe's)")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs, which share the cores")
    parser.add_argument("--output", type=Path, default=Path("outputs/ablations"), help="folder for the runs")
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
    futures = [
        pool.submit(run, recipe | variants[name], seed, options.data, options.output / name / str(seed), threads)
        for name, seed in jobs
    ]
    results: dict[str, list[Result]] = {}
    try:
        for (name, _), future in zip(jobs, futures, strict=True):
            results.setdefault(name, []).append(future.result())
    finally:
        pool.shutdown(cancel_futures=True)  # after a failure; finished runs stay on disk
    revisions = sorted({result.revision for runs in results.values() for result in runs})
    print(table(results))
    print(
        f"\nSeeds {', '.join(map(str, options.seeds))}; {recipe['epochs']} epochs; means ± standard deviation (n - 1); "
        f"{processor_name()}, {datetime.date.today():%d %B %Y}, dinov2-od {', '.join(revisions)}"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
