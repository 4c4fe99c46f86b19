"""How long `dino-detector data` takes on annotations of the size of COCO 2017, and how much memory.

    python -m benchmarks.costs.data_check [FOLDER]

Writes train and val annotations with the numbers of images, boxes and classes that COCO's have, polygons too (about
470 MB), into FOLDER or a temporary one, and checks them without images in a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SPLITS = {"train2017": (118_287, 860_001), "val2017": (5_000, 36_781)}
CLASSES = 80
POLYGON_POINTS = 22
SIZES = ((640, 480), (480, 640), (640, 427), (500, 375))


def write_split(path: Path, ids: np.ndarray, boxes: int, rng: np.random.Generator) -> None:
    """Write a COCO detection JSON of images of these ids and so many boxes, with a polygon for each box."""
    images = len(ids)
    sizes = np.array(SIZES)[rng.integers(len(SIZES), size=images)]
    image_of = rng.integers(images, size=boxes)
    extent = np.exp(rng.uniform(np.log(0.02), np.log(0.9), (boxes, 2))) * sizes[image_of]
    near = rng.uniform(0, 1, (boxes, 2)) * (sizes[image_of] - extent)
    xywh = np.round(np.concatenate([near, extent], axis=1), 2)
    labels = np.minimum(rng.geometric(0.06, boxes), CLASSES)
    listed = [
        {
            "license": 4,
            "file_name": f"{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/{path.stem}/{number:012d}.jpg",
            "height": height,
            "width": width,
            "date_captured": "2013-11-14 17:02:52",
            "flickr_url": f"http://farm7.staticflickr.com/6116/{path.stem}_{number}_z.jpg",
            "id": number,
        }
        for number, (width, height) in zip(ids.tolist(), sizes.tolist(), strict=True)
    ]
    with path.open("w") as file:
        file.write(f'{{"info": {{"description": "as large as COCO"}}, "images": {json.dumps(listed)}, "annotations": [')
        numbers = ids[image_of].tolist()
        for row, (x, y, width, height) in enumerate(xywh.tolist()):
            points = np.round(rng.uniform(0, 1, (POLYGON_POINTS, 2)) * (width, height) + (x, y), 2).ravel().tolist()
            entry = {
                "segmentation": [points],
                "area": round(0.6 * width * height, 4),
                "iscrowd": int(row % 90 == 0),
                "image_id": numbers[row],
                "bbox": [x, y, width, height],
                "category_id": int(labels[row]),
                "id": row + 1,
            }
            file.write((", " if row else "") + json.dumps(entry))
        names = [
            {"supercategory": "thing", "id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)
        ]
        file.write(f'], "categories": {json.dumps(names)}}}')


def main(folder: Path) -> None:
    """Write what is not there yet, check it, and print seconds and peak memory."""
    annotations = folder / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2017)
    free = rng.permutation(600_000) + 1
    for split, (images, boxes) in SPLITS.items():
        path = annotations / f"instances_{split}.json"
        ids, free = free[:images], free[images:]
        if not path.exists():
            write_split(path, ids, boxes, rng)
        print(f"{path.name}: {images:,} images, {boxes:,} boxes, {path.stat().st_size / 1e6:.0f} MB")
    started = time.perf_counter()
    command = [sys.executable, "-m", "dino_detector", "data", str(folder), "--skip_images"]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\n{seconds:.1f} s, {peak:.2f} GiB at the peak")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
