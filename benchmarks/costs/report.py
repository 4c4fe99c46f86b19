"""Size, time and memory of a report on a made-up evaluation: ``python -m benchmarks.costs.report --output_dir DIR``.

5,000 images of 640 x 480 pixels with 80 classes, seven boxes each, and 100 detections each: 200 pictures, made of
coloured shapes on smooth noise, and links to them. A second evaluation, a little better, is compared with the first.
"""

from __future__ import annotations

import argparse
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

from dino_detector.validate import EvaluationFiles, coco_metrics

WIDTH, HEIGHT = 640, 480
CLASSES = 80
DETECTIONS = 100


def draw(rng: np.random.Generator) -> Image.Image:
    """A picture with about as much detail as a photograph: 90 KB as JPEG of quality 85."""
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
    """Write the pictures and the links to them; returns the names of the files."""
    folder.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        if number < drawings:
            draw(rng).save(folder / name, quality=85)
        else:
            os.link(folder / names[number % drawings], folder / name)
    return names


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """``[count, 4]`` x, y, width and height of boxes of all sizes inside an image."""
    sizes = np.exp(rng.uniform(np.log(10), np.log(300), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sizes)
    return np.concatenate([corners, sizes], axis=1)


def ground_truth(names: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """COCO annotations with seven boxes an image on average."""
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
    """100 detections an image: most of its boxes, moved by ``noise`` of their size, now and then as another class."""
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
    """Write the evaluations, unless they are there, run the command on them, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5_000)
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
        code = "import sys; from dino_detector.commands.analyze import main; sys.exit(main(sys.argv[1:]))"
        subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        size = (target / "report.html").stat().st_size / 1e6
        print(f"{name}: report.html {size:.2f} MB, {seconds:.0f} s, {peak:.2f} GiB at most")


if __name__ == "__main__":
    main()
