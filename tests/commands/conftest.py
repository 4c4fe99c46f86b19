"""An untrained detector for tests of commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def save_detector() -> Callable[..., Path]:
    """Return a function that saves a tiny detector of random weights; its categories have the ids 3 and 9."""
    import torch

    from dino_detector.config import Config
    from dino_detector.inference.detector import build_detector
    from dino_detector.structures.categories import Categories

    architecture = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56}
    tiny = {
        "backbone_weights": "random",
        "backbone_architecture": architecture,
        "train_backbone": "full",
        "image_size": 56,
        "decoder_layers": 1,
        "hidden_dim": 32,
        "feature_scales": [1.0],
    }

    def save(path: Path, names: tuple[str, str], **settings: Any) -> Path:
        torch.manual_seed(0)
        build_detector(Config.from_flat(tiny | settings), categories=Categories((3, 9), names)).save(path)
        return path

    return save
