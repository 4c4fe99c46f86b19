from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.images import CocoImages


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[Any], Path]:
    """Return a function that writes an annotation file and returns its path."""

    def write(content: Any) -> Path:
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def coco() -> dict[str, Any]:
    """Return annotations of three images of 40 x 60 (height x width), one of them empty; ids have gaps."""
    return {
        "images": [
            {"id": 30, "file_name": "c.jpg", "height": 40, "width": 60},
            {"id": 0, "file_name": "a.jpg", "height": 40, "width": 60},
            {"id": 7, "file_name": "b.jpg", "height": 40, "width": 60},
        ],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20], "area": 150.0, "iscrowd": 0},
            {"id": 2, "image_id": 30, "category_id": 0, "bbox": [50.5, 30.5, 9.5, 9.5], "area": 90.0, "iscrowd": 0},
            {"id": 9, "image_id": 7, "category_id": 4, "bbox": [0, 0, 60, 40], "area": 2000.0, "iscrowd": 1},
        ],
        "categories": [{"id": 9, "name": "owl"}, {"id": 0, "name": "cat"}, {"id": 4, "name": "dog"}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[int], CocoAnnotations]:
    """Write noise images of 48 x 64 with one box each; the images lie in ``annotations.path.parent``."""

    def write(count: int) -> CocoAnnotations:
        rng = np.random.default_rng(0)
        for position in range(count):
            pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{position}.jpg")
        content = {
            "images": [
                {"id": 100 + position, "file_name": f"{position}.jpg", "height": 48, "width": 64}
                for position in range(count)
            ],
            "annotations": [
                {"id": 1 + position, "image_id": 100 + position, "category_id": 3, "bbox": [8, 12, 32, 24]}
                for position in range(count)
            ],
            "categories": [{"id": 3, "name": "thing"}],
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return CocoAnnotations.read(path)

    return write


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., CocoImages]:
    """Write pictures ``[3, H, W]`` uint8 losslessly, each with its boxes (xyxy) and labels (category ids)."""

    def write(*contents: tuple[torch.Tensor, list[list[float]], list[int]]) -> CocoImages:
        images, annotations = [], []
        for position, (pixels, boxes, labels) in enumerate(contents):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{position}.png")
            height, width = pixels.shape[1:]
            images.append({"id": 100 + position, "file_name": f"{position}.png", "height": height, "width": width})
            for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
                bbox = [left, top, right - left, bottom - top]
                annotations.append({"image_id": 100 + position, "category_id": label, "bbox": bbox})
        categories = [{"id": label, "name": str(label)} for label in range(10)]
        path = tmp_path / "pictures.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        return CocoImages(tmp_path, CocoAnnotations.read(path))

    return write
