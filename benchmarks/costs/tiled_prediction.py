"""Measure AP and time of tiled prediction on large images with small objects.

    python -m benchmarks.costs.tiled_prediction [FOLDER]

Trains a small detector on the demo data set, whose pictures have about 180 x 210 pixels, and evaluates it on scenes of
800 x 1040 pixels. A scene has sixteen such pictures, and one that is enlarged three times, for large objects. The table
compares the whole image with several tile sizes. Takes about three minutes on two CPU cores. FOLDER keeps the trained
detector for the next call.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common.command_line import run_in_folder
from dino_detector.commands.demo import demo_config
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config import Config
from dino_detector.data.demo_set import SHAPES, Drawn, draw_picture, write_demo_set
from dino_detector.inference.tiling import views_of
from dino_detector.training.evaluation import evaluate
from dino_detector.training.fit import fit

CELL = (160, 208)
"""height and width of a picture in a scene, in pixels"""
SIDE = 5
"""number of pictures along each side of a scene"""
LARGE = 3
"""side of the enlarged picture, in pictures"""
SCENES = 16
WAYS: dict[str, dict[str, Any]] = {
    "whole image alone": {},
    "tiles of 320x416": {"tile_size": "320x416"},
    "tiles of 160x208": {"tile_size": "160x208"},
    "tiles of 160x208, overlap 0": {"tile_size": "160x208", "tile_overlap": 0.0},
    "tiles of 160x208, overlap 0.4": {"tile_size": "160x208", "tile_overlap": 0.4},
    "tiles of 80x104": {"tile_size": "80x104"},
}


def draw_scene(rng: np.random.Generator) -> tuple[Image.Image, list[Drawn]]:
    """Return a scene, and its objects with their masks in the scene."""
    height, width = CELL
    scene = Image.new("RGB", (SIDE * width, SIDE * height))
    first = rng.integers(SIDE - LARGE + 1, size=2).tolist()  # row and column
    within = [range(start, start + LARGE) for start in first]
    places = [(first[0], first[1], LARGE)]
    places += [
        (row, column, 1)
        for row in range(SIDE)
        for column in range(SIDE)
        if row not in within[0] or column not in within[1]
    ]
    objects = []
    for row, column, scale in places:
        picture, drawn = draw_picture(rng, objects=int(rng.integers(1, 7)), crowd=False)
        corner, size = (column * width, row * height), (scale * width, scale * height)
        scene.paste(picture.resize(size), corner)
        for item in drawn:
            mask = Image.new("1", scene.size)
            mask.paste(Image.fromarray(item.mask).resize(size, Image.Resampling.NEAREST), corner)
            objects.append(item._replace(mask=np.asarray(mask)))
    return scene, objects


def write_scenes(folder: Path) -> tuple[Path, Path]:
    """Write scenes and annotations; return the image folder and the annotation file."""
    images_dir, path = folder / "scenes", folder / "scenes.json"
    images_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2022)
    images, entries = [], []
    for number in range(1, SCENES + 1):
        scene, objects = draw_scene(rng)
        name = f"{number:02d}.jpg"
        scene.save(images_dir / name, quality=90)
        images.append({"id": number, "file_name": name, "height": scene.height, "width": scene.width})
        entries += [
            {"id": len(entries) + position, "image_id": number, **item.annotation()}
            for position, item in enumerate(objects, start=1)
        ]
    categories = [{"id": shape.category_id, "name": shape.name} for shape in SHAPES]
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return images_dir, path


def train(folder: Path) -> Path:
    """Train on the demo data set unless the folder has a checkpoint; return the checkpoint."""
    checkpoint = folder / "training" / "dino_detector_final.pth"
    if not checkpoint.exists():
        fit(demo_config(write_demo_set(folder / "sample"), folder / "training"))
    return checkpoint


def main() -> None:
    """Run the benchmark in a given or a temporary folder."""
    run_in_folder("benchmarks.costs.tiled_prediction", __doc__, compare, files="all files")


def compare(folder: Path) -> None:
    """Train, evaluate each tiling, and print the table."""
    configure_logging()
    started = time.perf_counter()
    images, annotations = write_scenes(folder)
    checkpoint = train(folder)
    base = Config.from_flat(
        {
            "checkpoint": checkpoint,
            "val_images": images,
            "val_annotations": annotations,
            "output_dir": folder / "evaluation",
            "batch_size": 16,
            "num_workers": 0,
            "device": "cpu",
        }
    )
    names = ("AP", "AP50", "APs", "APm", "APl")
    print(f"\n| {SCENES} scenes | runs | {' | '.join(names)} | s per image |")
    print("|---" * (len(names) + 3) + "|")
    for way, settings in WAYS.items():
        config = base.replace(**settings)
        runs = len(views_of(SIDE * CELL[0], SIDE * CELL[1], config.tiling))
        before = time.perf_counter()
        metrics = evaluate(config).metrics
        seconds = (time.perf_counter() - before) / SCENES
        numbers = " | ".join(f"{vars(metrics)[name]:.3f}" for name in names)
        print(f"| {way} | {runs} | {numbers} | {seconds:.2f} |", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    sys.exit(run_command(main))
