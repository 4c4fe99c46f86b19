"""A generated evaluation of COCO's kind: ground truth of 80 classes, and detections of a plausible detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 480
CLASSES = 80
BOXES = 7
"""mean number of boxes per image, like COCO"""


def ground_truth(names: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Return COCO annotations of images with these file names; one box in 100 is a crowd."""
    annotations = []
    for image_id in range(len(names)):
        for box in _boxes(rng, int(rng.poisson(BOXES))).round(2).tolist():
            category_id = int(CLASSES * rng.beta(0.7, 2)) + 1
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category_id, "bbox": box}
            annotations.append(entry | {"area": box[2] * box[3], "iscrowd": int(len(annotations) % 100 == 99)})
    return {
        "images": [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"class number {number}"} for number in range(1, CLASSES + 1)],
    }


def detections(
    truth: dict[str, Any], rng: np.random.Generator, *, noise: float, per_image: int = 100
) -> list[dict[str, Any]]:
    """Return COCO results: shifted copies of most boxes, some with a wrong class, and random boxes.

    Args:
        truth: COCO annotations.
        rng: source of randomness.
        noise: standard deviation of the shift, as a share of the size of the box.
        per_image: number of detections per image.
    """
    objects: dict[int, list[dict[str, Any]]] = {}
    for entry in truth["annotations"]:
        objects.setdefault(entry["image_id"], []).append(entry)
    rows = []
    for image in truth["images"]:
        own = [entry for entry in objects.get(image["id"], ()) if rng.random() < 0.85][:per_image]
        found = np.array([entry["bbox"] for entry in own]).reshape(-1, 4)
        found = found + rng.normal(0, noise, found.shape) * np.tile(found[:, 2:], 2)
        labels = [entry["category_id"] if rng.random() < 0.85 else int(rng.integers(1, CLASSES + 1)) for entry in own]
        others = per_image - len(own)
        everything = np.concatenate([found, _boxes(rng, others)]).round(3)
        everything[:, 2:] = everything[:, 2:].clip(1)
        labels += rng.integers(1, CLASSES + 1, others).tolist()
        scores = np.concatenate([rng.beta(4, 2, len(own)), rng.beta(1, 12, others)])
        for position in np.argsort(-scores):
            row = {"image_id": image["id"], "category_id": labels[position], "bbox": everything[position].tolist()}
            rows.append(row | {"score": float(scores[position])})
    return rows


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes ``[count, 4]`` of all sizes inside an image: x, y, width and height in pixels."""
    sizes = np.exp(rng.uniform(np.log(10), np.log(300), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sizes)
    return np.concatenate([corners, sizes], axis=1)
