"""A data set of COCO's size, whose images are links to a few."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from benchmarks.speed.scenes import CLASSES, HEIGHT, WIDTH, write_scenes

IMAGES = 118_287
ANNOTATIONS = 860_001
CORNERS = 23
"""of a polygon: with them the file has the size of COCO's, 0.45 GB"""
PICTURES = 96


def write_large(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """Write it; returns the settings ``train_images`` and ``train_annotations``."""
    scenes = Path(write_scenes(folder / "scenes", images=PICTURES, boxes=1)["train_images"])
    pictures, listing = folder / "images", folder / "instances.json"
    pictures.mkdir()
    rng = np.random.default_rng(seed)
    polygons = [json.dumps([row]) for row in (rng.random((1000, 2 * CORNERS)) * 400).round(2).tolist()]
    sides = rng.integers(8, 200, (ANNOTATIONS, 2))
    corners = rng.integers(0, [WIDTH, HEIGHT] - sides)
    image_ids, category_ids = rng.integers(1, IMAGES + 1, ANNOTATIONS), rng.integers(1, CLASSES + 1, ANNOTATIONS)
    columns = (image_ids, category_ids, corners[:, 0], corners[:, 1], sides[:, 0], sides[:, 1])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    with listing.open("w", encoding="utf-8") as file:
        file.write('{"info": {}, "images": [')
        for number in range(1, IMAGES + 1):
            name = f"{number:012}.jpg"
            os.link(scenes / f"{1 + number % PICTURES:06}.jpg", pictures / name)
            file.write("" if number == 1 else ", ")
            file.write(
                f'{{"license": 3, "file_name": "{name}", "coco_url": "http://images.example.org/train2017/{name}", '
                f'"height": {HEIGHT}, "width": {WIDTH}, "date_captured": "2013-11-14 11:18:45", "id": {number}}}'
            )
        file.write('], "annotations": [')
        for number, (image, label, left, top, width, height) in enumerate(rows, start=1):
            file.write("" if number == 1 else ", ")
            file.write(
                f'{{"segmentation": {polygons[number % len(polygons)]}, "area": {width * height}, "iscrowd": 0, '
                f'"image_id": {image}, "bbox": [{left}, {top}, {width}, {height}], "category_id": {label}, '
                f'"id": {number}}}'
            )
        classes = [{"id": label, "name": f"class {label}"} for label in range(1, CLASSES + 1)]
        file.write(f'], "categories": {json.dumps(classes)}}}')
    return {"train_images": str(pictures), "train_annotations": str(listing)}
