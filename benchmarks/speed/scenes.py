"""Pictures with boxes in COCO format, for measurements that do not depend on the content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 640, 480
CLASSES = 80


def write_scenes(folder: Path, *, images: int, boxes: int, seed: int = 0) -> dict[str, str]:
    """Write JPEG files of 640 x 480 pixels and their annotations.

    Returns:
        The settings of training and validation images and annotations, which are the same files.
    """
    rng = np.random.default_rng(seed)
    pictures, listing = folder / "images", folder / "annotations.json"
    pictures.mkdir(parents=True)
    annotations = []
    for number in range(1, images + 1):
        coarse = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(boxes):
            width, height = (int(side) for side in rng.integers(20, 160, 2))
            left, top = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
            draw.rectangle((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(1, CLASSES + 1)),
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        picture.save(pictures / f"{number:06}.jpg", quality=90)
    listed = [
        {"id": number, "file_name": f"{number:06}.jpg", "width": WIDTH, "height": HEIGHT}
        for number in range(1, images + 1)
    ]
    categories = [{"id": label, "name": f"class {label}"} for label in range(1, CLASSES + 1)]
    listing.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))
    return {
        f"{split}_{kind}": str(place)
        for split in ("train", "val")
        for kind, place in (("images", pictures), ("annotations", listing))
    }


def random_boxes(*shape: int) -> torch.Tensor:
    """Return relative cxcywh boxes ``[*shape, 4]`` of usual sizes."""
    return torch.cat([torch.rand(*shape, 2) * 0.8 + 0.1, torch.rand(*shape, 2) * 0.2 + 0.02], dim=-1)
