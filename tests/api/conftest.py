"""A small drawn data set, settings that train on it within seconds, and one run of two epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dino_detector as dd


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a drawn data set: 8 training and 4 validation images."""
    folder = tmp_path_factory.mktemp("drawn")
    dd.write_demo_set(folder, train_images=8, val_images=4)
    return folder


@pytest.fixture(scope="session")
def small(dinov2_folder: Path) -> dict[str, Any]:
    """Return settings of a tiny detector."""
    return {
        **{"dino_model": dinov2_folder, "image_size": (56, 84), "lora_layers": 1, "lora_rank": 2, "device": "cpu"},
        **{"num_queries": 8, "decoder_layers": 1, "hidden_dim": 16, "num_heads": 4, "feedforward_dim": 24},
        **{"feature_scales": (1.0,), "box_head_dim": 12, "denoising_queries": 0, "batch_size": 4, "num_workers": 0},
        **{"val_frequency": 1, "logger": []},
    }


@pytest.fixture(scope="session")
def run(drawn: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dd.Run:
    """Return a run of two epochs, in a folder that tests must not change."""
    folder = tmp_path_factory.mktemp("run") / "outputs"
    return dd.train(drawn, epochs=2, output_dir=folder, **small)
