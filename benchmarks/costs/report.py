"""Measure size, time and memory of the report of a generated evaluation.

    python -m benchmarks.costs.report --output_dir outputs/report

The evaluation has 5,000 images of 640 x 480 pixels, 80 classes, and on average seven boxes and 100 detections per
image. The images are links to 200 pictures of coloured shapes on smooth noise. A second report compares two
evaluations.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.common.command_line import command_parser
from benchmarks.common.generated_evaluation import HEIGHT, WIDTH, detections, ground_truth
from dino_detector.commands.frame import run_command
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.validate import coco_metrics


def draw(rng: np.random.Generator) -> Image.Image:
    """Return a picture with the detail of a photograph: 90 KB as JPEG of quality 85."""
    pixels = np.zeros((HEIGHT, WIDTH, 3))
    for octave in (4, 16, 64, 320):
        noise = rng.integers(0, 255, (octave * 3 // 4, octave, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / 4
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
        w, h = rng.integers(20, 200, 2)
        pen.ellipse((x, y, x + w, y + h), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return picture


def write_images(folder: Path, count: int, rng: np.random.Generator, *, drawings: int = 200) -> list[str]:
    """Write ``drawings`` pictures and links to them, ``count`` files in all; return the file names."""
    folder.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        if number < drawings:
            draw(rng).save(folder / name, quality=85)
        else:
            os.link(folder / names[number % drawings], folder / name)
    return names


def main() -> None:
    """Write missing evaluations, make the reports, and print size, time and memory."""
    parser = command_parser("benchmarks.costs.report", __doc__)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for evaluations and reports")
    parser.add_argument("--images", type=int, default=5_000, help="number of images (default: 5000)")
    options = parser.parse_args()
    folder = options.output_dir
    listing = folder / "val.json"
    runs = [EvaluationFiles.of(folder, f"_{name}", images=folder / "val", annotations=listing) for name in "ab"]
    if not listing.exists():
        rng = np.random.default_rng(0)
        truth = ground_truth(write_images(folder / "val", options.images, rng), rng)
        listing.write_text(json.dumps(truth))
        for files, noise in zip(runs, (0.09, 0.08), strict=True):
            rows = detections(truth, rng, noise=noise)
            files.write(coco_metrics(truth, rows), rows)
    for name, metrics in (("one file", runs[1:]), ("compared with another", runs)):
        target = folder / f"analysis_{len(metrics)}"
        started = time.monotonic()
        words = ["--metrics_file", *(str(files.metrics) for files in metrics), "--output_dir", str(target)]
        command = [sys.executable, "-m", "dino_detector", "analyze", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        size = (target / "report.html").stat().st_size / 1e6
        print(f"{name}: report.html {size:.2f} MB, {seconds:.0f} s, {peak:.2f} GiB at most")


if __name__ == "__main__":
    sys.exit(run_command(main))
