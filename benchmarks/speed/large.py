"""A training set of COCO's size, whose images are hard links to a few pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.common.coco_sized import TRAIN_BOXES, TRAIN_IMAGES, write_annotations
from benchmarks.speed.scenes import HEIGHT, WIDTH, write_scenes

PICTURES = 96
"""number of different pictures"""


def write_large(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """Write the data set; return the settings ``train_images`` and ``train_annotations``."""
    scenes = Path(write_scenes(folder / "scenes", images=PICTURES, boxes=1)["train_images"])
    pictures, listing = folder / "images", folder / "instances.json"
    pictures.mkdir()
    ids = np.arange(1, TRAIN_IMAGES + 1)
    for number in ids.tolist():
        os.link(scenes / f"{1 + number % PICTURES:06}.jpg", pictures / f"{number:012}.jpg")
    write_annotations(listing, ids, TRAIN_BOXES, np.random.default_rng(seed), sizes=((WIDTH, HEIGHT),))
    return {"train_images": str(pictures), "train_annotations": str(listing)}
