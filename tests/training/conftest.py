"""A tiny data set, settings that train on it within a second, and runs in their own folders."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from dino_detector.config import Config
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.training.fit import fit

COLOURS = {4: (230, 60, 60), 9: (60, 90, 230)}
"""category ids, with gaps, and their colours"""


class Split(NamedTuple):
    """The paths of a split of the data set."""

    images: Path
    annotations: Path


def write_boxes(folder: Path, name: str, count: int, *, seed: int = 0, first_id: int = 20) -> Split:
    """Draw coloured rectangles, two on an image of 60 x 80 pixels, on dark noise."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    (folder / name).mkdir(parents=True)
    for position in range(count):
        image_id = first_id + 5 * position
        pixels = rng.integers(0, 60, (60, 80, 3), dtype=np.uint8)
        for half in range(2):
            width, height = (int(side) for side in rng.integers(18, 34, 2))
            left = 40 * half + int(rng.integers(0, 40 - width))
            top = int(rng.integers(0, 60 - height))
            category_id = int(rng.choice(list(COLOURS)))
            pixels[top : top + height, left : left + width] = COLOURS[category_id]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        Image.fromarray(pixels).save(folder / name / f"{position}.png")
        images.append({"id": image_id, "file_name": f"{position}.png", "height": 60, "width": 80})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 4, "name": "brick"}, {"id": 9, "name": "tile"}],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return Split(folder / name, path)


@pytest.fixture(scope="session")
def draw_boxes() -> Callable[..., Split]:
    """Return `write_boxes`, for tests that need their own images."""
    return write_boxes


@pytest.fixture(scope="session")
def train_split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Return seven training images; with batches of two, the last batch of an epoch is smaller."""
    return write_boxes(tmp_path_factory.mktemp("data"), "train", 7)


@pytest.fixture(scope="session")
def val_split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Return five validation images."""
    return write_boxes(tmp_path_factory.mktemp("data"), "val", 5, seed=1, first_id=300)


TINY: dict[str, Any] = {
    "image_size": 56,
    "augmentation": False,
    "num_workers": 0,
    "backbone_weights": "random",
    "train_backbone": "full",
    "layer_decay": 1.0,
    "backbone_architecture": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 56,
    },
    "lora_rank": 4,
    "lora_layers": 1,
    "num_queries": 8,
    "decoder_layers": 2,
    "hidden_dim": 32,
    "num_heads": 2,
    "feedforward_dim": 64,
    "n_points": 2,
    "feature_scales": [1.0],
    "box_head_dim": 32,
    "epochs": 3,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "val_frequency": 1,
    "ema_decay": 0.9,
    "device": "cpu",
    "logger": [],
    "precision": "32",  # tests compare two computations to many digits
}


@pytest.fixture(scope="session")
def frozen_base(dinov2_folder: Path) -> dict[str, Any]:
    """Return settings of adapters on a pretrained, frozen backbone."""
    base = {"backbone_weights": "pretrained", "backbone_architecture": {}, "dino_model": str(dinov2_folder)}
    return base | {"train_backbone": "lora"}


class Run(NamedTuple):
    """A finished run: its folder, settings and last metrics."""

    folder: Path
    config: Config
    metrics: CocoMetrics

    def checkpoint(self, kind: str) -> dict[str, Any]:
        """Return the contents of ``dino_detector_<kind>.pth``."""
        return torch.load(self.folder / f"dino_detector_{kind}.pth", weights_only=True)


@pytest.fixture(scope="session")
def settings(train_split: Split, val_split: Split) -> Callable[..., Config]:
    """Return a function that builds the tiny settings, some of them changed."""

    def build(output_dir: Path, **changes: Any) -> Config:
        data = {
            "train_images": train_split.images,
            "train_annotations": train_split.annotations,
            "val_images": val_split.images,
            "val_annotations": val_split.annotations,
        }
        return Config.from_flat(TINY | data | {"output_dir": output_dir} | changes)

    return build


@pytest.fixture(scope="session")
def train(settings: Callable[..., Config]) -> Callable[..., Run]:
    """Return a function that trains with the tiny settings, some of them changed."""

    def run(output_dir: Path, *callbacks: Callback, **changes: Any) -> Run:
        config = settings(output_dir, **changes)
        return Run(output_dir, config, fit(config, callbacks=list(callbacks)))

    return run


@pytest.fixture(autouse=True, scope="package")
def _no_sync() -> Iterator[None]:
    """Write files without waiting for the disk; killed runs, in processes of their own, sync as they do for users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice on workers and logging."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
