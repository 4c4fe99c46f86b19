"""Measure time and memory of ``dino-detector data`` on annotations of COCO's size.

    python -m benchmarks.costs.data_check [FOLDER]

Writes train and val annotations with COCO's numbers of images, boxes and classes, with polygons (about 470 MB), and
checks them without images in a separate process. FOLDER keeps the annotations for the next call.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common.coco_sized import TRAIN_BOXES, TRAIN_IMAGES, VAL_BOXES, VAL_IMAGES, write_annotations
from benchmarks.common.command_line import run_in_folder
from dino_detector.commands.frame import run_command

SPLITS = {"train2017": (TRAIN_IMAGES, TRAIN_BOXES), "val2017": (VAL_IMAGES, VAL_BOXES)}


def main() -> None:
    """Run the benchmark in a given or a temporary folder."""
    run_in_folder("benchmarks.costs.data_check", __doc__, measure, files="the annotations")


def measure(folder: Path) -> None:
    """Write missing annotations, check the folder, and print seconds and peak memory."""
    annotations = folder / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2017)
    free = rng.permutation(600_000) + 1
    for split, (images, boxes) in SPLITS.items():
        path = annotations / f"instances_{split}.json"
        ids, free = free[:images], free[images:]
        if not path.exists():
            write_annotations(path, ids, boxes, rng)
        print(f"{path.name}: {images:,} images, {boxes:,} boxes, {path.stat().st_size / 1e6:.0f} MB", flush=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dino_detector", "data", str(folder), "--skip_images"], check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\n{seconds:.1f} s, {peak:.2f} GiB at the peak")


if __name__ == "__main__":
    sys.exit(run_command(main))
