"""Annotations of COCO's size, with random boxes and polygons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TRAIN_IMAGES, TRAIN_BOXES = 118_287, 860_001
"""numbers of COCO's train2017"""
VAL_IMAGES, VAL_BOXES = 5_000, 36_781
"""numbers of COCO's val2017"""
CLASSES = 80
POLYGON_POINTS = 22
SIZES = ((640, 480), (480, 640), (640, 427), (500, 375))
"""widths and heights of COCO's images, in pixels"""


def write_annotations(
    path: Path, ids: np.ndarray, boxes: int, rng: np.random.Generator, *, sizes: Sequence[tuple[int, int]] = SIZES
) -> None:
    """Write COCO detection JSON with random boxes and a polygon for each; images are named like COCO's.

    Args:
        path: file to write.
        ids: ``[N]`` ids of the images.
        boxes: number of boxes.
        rng: source of randomness.
        sizes: widths and heights, in pixels; each image gets one at random.
    """
    images = len(ids)
    size_of = np.array(sizes)[rng.integers(len(sizes), size=images)]
    image_of = rng.integers(images, size=boxes)
    extent = np.exp(rng.uniform(np.log(0.02), np.log(0.9), (boxes, 2))) * size_of[image_of]
    corner = rng.uniform(0, 1, (boxes, 2)) * (size_of[image_of] - extent)
    xywh = np.round(np.concatenate([corner, extent], axis=1), 2)
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
        for number, (width, height) in zip(ids.tolist(), size_of.tolist(), strict=True)
    ]
    with path.open("w", encoding="utf-8") as file:
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
        categories = [
            {"supercategory": "thing", "id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)
        ]
        file.write(f'], "categories": {json.dumps(categories)}}}')
