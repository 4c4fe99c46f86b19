"""Trainings of the benchmark on parts of a data set, with a shared trunk cache."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from dino_detector.config import Config
from dino_detector.labelling.labelled_data import JoinedData
from dino_detector.storage.files import read_json
from dino_detector.training.fit import fit
from dino_detector.validate import coco_metrics

STRIDE = 10_000_000
"""distance of the ids of an image's copies, larger than any id, and equal in all runs for the trunk cache"""
IMAGES_PER_EPOCH = 200
"""number of images of an epoch, to which few images are repeated: each epoch writes files, which takes time"""
RECIPE = Path(__file__).with_name("recipe_cpu.yaml")


class Trained(NamedTuple):
    """A checkpoint, and its AP on validation and on test images."""

    checkpoint: Path
    ap: dict[str, float]


def recipe(**settings: Any) -> Config:
    """Return the settings of the detectors."""
    return Config.from_flat(yaml.safe_load(RECIPE.read_text(encoding="utf-8")) | settings)


def in_splits(data: JoinedData, *names: str) -> np.ndarray:
    """Return the images of some splits, ``[I]`` bool."""
    return np.array([split in names for split, _ in data.origins])


def train(data: JoinedData, chosen: np.ndarray, config: Config, *, images_seen: int, folder: Path) -> Trained:
    """Train on the chosen images ``[I]`` bool, and evaluate on validation and test images.

    Args:
        data: all splits of a data set.
        chosen: the labelled images.
        config: settings of the detector.
        images_seen: number of images that the training shows, so that all trainings take about equally long.
        folder: folder of the run; its files of an earlier run are removed.
    """
    logging.getLogger("dino_detector").setLevel(logging.WARNING)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    held_out = in_splits(data, "val", "test")
    paths, times = {}, max(1, round(IMAGES_PER_EPOCH / int(chosen.sum())))
    for name, part in (("train", chosen), ("val", held_out)):
        path = folder / f"{name}.json"
        content = data.part(part)
        if name == "train":
            content = repeated(content, times=times)
        path.write_text(json.dumps(content), encoding="utf-8")
        paths |= {f"{name}_images": str(data.folder), f"{name}_annotations": str(path)}
    epochs = max(2, math.ceil(images_seen / (times * int(chosen.sum()))))
    fit(config.replace(**paths, output_dir=str(folder), epochs=epochs, val_frequency=epochs, keep_empty_classes=True))
    results = read_json(folder / f"val_predictions_epoch_{epochs}.json")
    ap = {}
    for split in ("val", "test"):
        part = in_splits(data, split)
        ids = {image["id"] for image, is_in in zip(data.images, part.tolist(), strict=True) if is_in}
        own = [row for row in results if row["image_id"] in ids]
        ap[split] = coco_metrics(data.part(part), own).AP
    return Trained(folder / "dino_detector_final.pth", ap)


def repeated(content: dict[str, Any], *, times: int) -> dict[str, Any]:
    """Return a COCO file in which each image and its labels come several times, under new ids."""
    copies: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for first in (number * STRIDE for number in range(times)):
        copies["images"] += [image | {"id": image["id"] + first} for image in content["images"]]
        copies["annotations"] += [
            label | {"id": label["id"] + first, "image_id": label["image_id"] + first}
            for label in content["annotations"]
        ]
    return content | copies
