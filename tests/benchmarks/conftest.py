from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.accuracy.job import Job

CLASSES = ({"id": 4, "name": "red"}, {"id": 9, "name": "blue"})
"""categories whose ids have gaps and start at 4"""


@pytest.fixture(scope="session")
def two_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a COCO folder with the same two images for training and validation, one wide, one tall, two boxes each."""
    folder = tmp_path_factory.mktemp("two_images")
    pictures = [
        (31, (200, 100), [(4, [20, 30, 60, 40]), (9, [120, 10, 50, 80])]),
        (12, (90, 160), [(9, [10, 20, 40, 60]), (4, [40, 100, 45, 50])]),
    ]
    images, entries = [], []
    for split in ("train", "val"):
        (folder / split).mkdir()
    rng = np.random.default_rng(0)
    for image_id, (width, height), objects in pictures:
        picture = Image.fromarray(rng.integers(90, 110, (height, width, 3), dtype=np.uint8))
        for category_id, (x, y, w, h) in objects:
            colour = (220, 40, 40) if category_id == 4 else (40, 40, 220)
            ImageDraw.Draw(picture).rectangle((x, y, x + w - 1, y + h - 1), fill=colour)
            entry = {"id": len(entries) + 1, "image_id": image_id, "category_id": category_id, "bbox": [x, y, w, h]}
            entries.append(entry | {"area": w * h, "iscrowd": 0})
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height})
        for split in ("train", "val"):
            picture.save(folder / split / f"{image_id}.png")
    (folder / "annotations").mkdir()
    content = {"images": images, "annotations": entries, "categories": list(CLASSES)}
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def job(two_images: Path, tmp_path: Path) -> Callable[..., Job]:
    """Return a function that makes a small job on the two images, with an existing folder."""

    def make(**fields: Any) -> Job:
        given = {
            "system": "ours",
            "seed": 0,
            "train_images": str(two_images / "train"),
            "train_annotations": str(two_images / "annotations" / "instances_train.json"),
            "val_images": str(two_images / "val"),
            "val_annotations": str(two_images / "annotations" / "instances_val.json"),
            "backbone": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
            "image_size": 56,
            "budget": 8.0,
            "calibration": 1.0,
            "evaluations": 4,
            "device": "cpu",
            "workers": 0,
            "settings": {},
            "folder": str(tmp_path / "run"),
        }
        made = Job(**given | fields)
        Path(made.folder).mkdir(exist_ok=True)
        return made

    return make
