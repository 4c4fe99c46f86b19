"""Simulate labelling: pictures that ``suggest`` chooses against random ones.

Both begin with the same random pictures. Random choice takes the next pictures of a shuffled list. ``suggest`` looks at
the rest with the detector that was trained so far, and its choice gets the labels of the data set.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labelling.runs import in_splits, recipe, train
from dino_detector.data.holdout import near_copies
from dino_detector.inference.detector import Detector
from dino_detector.labelling.labelled_data import JoinedData, LabelledData
from dino_detector.labelling.suggestions import choose, look_at, uncertainties

START = 20
SUGGESTED = (40, 60)
RANDOM = (40, 58, 86)
"""numbers of labelled pictures: 40 is 0.69 of 58, and 60 is 0.70 of 86"""


def simulate(source: Path, *, seed: int, images_seen: int, image_size: int, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each training: way, number of pictures and of boxes, AP on validation and test images."""
    data = LabelledData.read(source).joined()
    config = recipe(image_size=image_size, seed=seed, cache_trunk=str(folder / "trunk"), cache_views=2)
    pool = np.flatnonzero(in_splits(data, "train"))
    shuffled = np.random.default_rng(seed).permutation(pool)
    groups = near_copies(data.folder, [image["file_name"] for image in data.images])
    rows: list[dict[str, Any]] = []

    def trained(way: str, chosen: np.ndarray) -> Path:
        mask = np.zeros(len(data.images), bool)
        mask[chosen] = True
        run = train(data, mask, config, images_seen=images_seen, folder=folder / f"run_{way}")
        boxes = len(data.part(mask)["annotations"])
        row = {"data": source.name, "seed": seed, "way": way, "pictures": len(chosen), "boxes": boxes}
        rows.append(row | {f"AP_{split}": round(value, 4) for split, value in run.ap.items()})
        print(json.dumps(rows[-1]), flush=True)
        return run.checkpoint

    first = trained("start", shuffled[:START])
    chosen = shuffled[:START]
    checkpoint = first
    for size in SUGGESTED:
        more = _suggested(data, pool, chosen, checkpoint, groups, count=size - len(chosen))
        chosen = np.concatenate([chosen, more])
        checkpoint = trained("suggest", chosen)
    for size in RANDOM:
        trained("random", shuffled[:size])
    return rows


def _suggested(
    data: JoinedData, pool: np.ndarray, chosen: np.ndarray, checkpoint: Path, groups: np.ndarray, *, count: int
) -> np.ndarray:
    """Return the images of the pool that ``suggest`` chooses."""
    detector = Detector.load(checkpoint, device="cpu").optimize(precision="32")
    looked = look_at(detector, [data.folder / data.images[row]["file_name"] for row in pool], batch_size=8)
    is_labelled = np.isin(pool, chosen)
    value = uncertainties(looked.found, detector.categories)
    picks = choose(value, looked.features, groups[pool], is_labelled, count=count)
    return pool[[pick.row for pick in picks]]
