"""A small clean data set for tests to damage: COCO's layout, two boxes an image, no two images alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dino_detector.config import ImageSize
from dino_detector.data.coco.findings import Finding
from dino_detector.data.layouts import find_sources
from dino_detector.data_check.check import Check, check, load
from dino_detector.data_check.patches import PatchGrid

IMAGES, BOXES = {"train": 24, "val": 12}, 2
SIZE = (120, 90)

Content = dict[str, Any]


def clean(split: str) -> Content:
    """Return clean COCO annotations: two boxes of different classes in each image, no two images alike."""
    rng = np.random.default_rng(0 if split == "train" else 1)
    first = 1 if split == "train" else 1001
    images = [
        {"id": first + number, "file_name": f"{split}_street_{number}.png", "width": SIZE[0], "height": SIZE[1]}
        for number in range(IMAGES[split])
    ]
    annotations = []
    for image in images:
        for category in (1, 2):
            width, height = (int(side) for side in rng.integers(20, 40, 2))
            x, y = int(rng.integers(0, 19)) + 60 * (category - 1), int(rng.integers(0, 50))
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image["id"], "category_id": category},
                    **{"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0},
                }
            )
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}]
    return {"images": images, "annotations": annotations, "categories": categories}


class Data:
    """A data set in a folder, in COCO's layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train, self.val = clean("train"), clean("val")
        for seed, (split, content) in enumerate((("train", self.train), ("val", self.val))):
            (folder / split).mkdir(parents=True)
            rng = np.random.default_rng(seed)
            for image in content["images"]:
                coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(folder / split / image["file_name"])

    def write(self) -> None:
        (self.folder / "annotations").mkdir(exist_ok=True)
        for split, content in (("train", self.train), ("val", self.val)):
            path = self.folder / "annotations" / f"instances_{split}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))

    def check(
        self, *, image_size: tuple[int, int] = (84, 112), num_queries: int = 100, skip_images: bool = False
    ) -> Check:
        self.write()
        sources = find_sources(self.folder)
        loaded = load(sources, self.folder, [None] * len(sources))
        grid = PatchGrid(ImageSize(*image_size), "stretch")
        return check(loaded, grid=grid, num_queries=num_queries, advance=None if skip_images else lambda: None)


def found(checked: Check) -> dict[tuple[str, str], Finding]:
    return {(finding.kind, finding.split): finding for finding in checked.findings}


def each(entries: list[dict[str, Any]], count: int, **changes: Any) -> None:
    for entry in entries[:count]:
        entry.update(copy.deepcopy(changes))


def without(entries: list[dict[str, Any]], count: int, key: str) -> None:
    for entry in entries[:count]:
        del entry[key]


def moved(boxes: list[dict[str, Any]], convert: Callable[..., list[float]]) -> None:
    for entry in boxes:
        entry["bbox"] = convert(*entry["bbox"])


def again(content: Content, key: str, position: int, **changes: Any) -> None:
    content[key].append(copy.deepcopy(content[key][position]) | changes)
