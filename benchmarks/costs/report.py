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
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.common.command_line import command_parser
from dino_detector.commands.frame import run_command
from dino_detector.validate import EvaluationFiles, coco_metrics

WIDTH, HEIGHT = 640, 480
CLASSES = 80
DETECTIONS = 100


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


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes ``[count, 4]`` of all sizes inside an image: x, y, width and height in pixels."""
    sizes = np.exp(rng.uniform(np.log(10), np.log(300), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sizes)
    return np.concatenate([corners, sizes], axis=1)


def ground_truth(names: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """Return COCO annotations with on average seven boxes per image."""
    annotations = []
    for image_id in range(len(names)):
        for box in boxes(rng, int(rng.poisson(7))).round(2).tolist():
            category_id = int(CLASSES * rng.beta(0.7, 2)) + 1
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category_id, "bbox": box}
            annotations.append(entry | {"area": box[2] * box[3], "iscrowd": 0})
    return {
        "images": [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"class number {number}"} for number in range(1, CLASSES + 1)],
    }


def detections(truth: dict[str, Any], rng: np.random.Generator, *, noise: float) -> list[dict[str, Any]]:
    """Return 100 detections per image: shifted copies of most boxes, some with a wrong class, and random boxes.

    Args:
        truth: COCO annotations.
        rng: source of randomness.
        noise: standard deviation of the shift, as a share of the size of the box.
    """
    objects: dict[int, list[dict[str, Any]]] = {}
    for entry in truth["annotations"]:
        objects.setdefault(entry["image_id"], []).append(entry)
    rows = []
    for image in truth["images"]:
        own = [entry for entry in objects.get(image["id"], ()) if rng.random() < 0.85]
        found = np.array([entry["bbox"] for entry in own]).reshape(-1, 4)
        found = found + rng.normal(0, noise, found.shape) * np.tile(found[:, 2:], 2)
        labels = [entry["category_id"] if rng.random() < 0.85 else int(rng.integers(1, CLASSES + 1)) for entry in own]
        others = DETECTIONS - len(own)
        everything = np.concatenate([found, boxes(rng, others)]).round(3)
        everything[:, 2:] = everything[:, 2:].clip(1)
        labels += rng.integers(1, CLASSES + 1, others).tolist()
        scores = np.concatenate([rng.beta(4, 2, len(own)), rng.beta(1, 12, others)])
        for position in np.argsort(-scores):
            row = {"image_id": image["id"], "category_id": labels[position], "bbox": everything[position].tolist()}
            rows.append(row | {"score": float(scores[position])})
    return rows


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
