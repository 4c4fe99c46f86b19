"""Training runs of an ablation, and the table that compares them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.common.machine import revision
from benchmarks.common.runs import require_equal
from dino_detector.errors import InputError


class Result(NamedTuple):
    """The last evaluation of a run."""

    AP: float
    AP50: float
    APs: float
    seconds_per_image: float
    """wall time of the run by the images it was trained on, evaluations included"""
    revision: str
    """commit of this repository at the time of training"""


def run(settings: dict[str, Any], seed: int, data: Path, folder: Path, threads: int) -> Result:
    """Return the last evaluation of a run; train in a separate process unless the run has finished before.

    Raises:
        InputError: the run failed, or the folder has a run with other settings.
    """
    files = {
        f"{split}_{kind}": str(data / place)
        for split in ("train", "val")
        for kind, place in (("images", split), ("annotations", f"annotations/instances_{split}.json"))
    }
    asked = settings | files | {"seed": seed, "output_dir": str(folder)}
    config, trained_by, log = folder / "run.yaml", folder / "revision.txt", folder / "run.log"
    metrics_file = folder / f"val_metrics_epoch_{settings['epochs']}.json"
    if metrics_file.exists():
        require_equal(yaml.safe_load(config.read_text(encoding="utf-8")), asked, place=folder, folder=folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(yaml.safe_dump(asked), encoding="utf-8")
        trained_by.write_text(f"{revision()}\n", encoding="utf-8")
        command = [sys.executable, "-m", "dino_detector.train", "--config", config]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with log.open("w", encoding="utf-8") as output:
            if subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode:
                last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                raise InputError(f"a run failed; {log} ends with: {last}")
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    commit = trained_by.read_text(encoding="utf-8").strip()
    return Result(metrics["AP"], metrics["AP50"], metrics["APs"], metrics["seconds"] / metrics["images_seen"], commit)


def table(results: dict[str, list[Result]]) -> str:
    """Return a Markdown table of means over seeds.

    The change of AP is computed for each seed. The table has its mean and its standard deviation over the seeds.

    Args:
        results: results of each variant in the same order of seeds; ``recipe`` is the baseline.
    """
    recipe = results["recipe"]
    lines = ["| variant | AP | change of AP | AP50 | APs | time per image |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        changes = [one.AP - base.AP for one, base in zip(found, recipe, strict=True)]
        change = "" if name == "recipe" else f"{statistics.mean(changes):+.3f} ± {_deviation(changes):.3f}"
        times = [statistics.mean(one.seconds_per_image for one in runs) for runs in (found, recipe)]
        means = [statistics.mean(getattr(one, column) for one in found) for column in ("AP", "AP50", "APs")]
        deviation = _deviation([one.AP for one in found])
        lines.append(
            f"| {name} | {means[0]:.3f} ± {deviation:.3f} | {change} | {means[1]:.3f} | {means[2]:.3f} "
            f"| {times[0] / times[1]:.2f} |"
        )
    return "\n".join(lines)


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
