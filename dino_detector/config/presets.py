"""Presets: values that one flag puts in place of the defaults. Explicit settings win over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dino_detector.config.data import SubsetConfig

LIGHTWEIGHT: dict[str, Any] = {
    "dino_model": "facebook/dinov2-small",
    "lora_rank": 8,
    "lora_alpha": 8.0,
    "lora_layers": 2,
    "num_queries": 25,
    "decoder_layers": 2,
    "hidden_dim": 192,
    "num_heads": 6,
    "feedforward_dim": 384,
    "n_points": 2,
    "feature_layers": [-3, -1],
    "feature_scales": [2.0, 1.0],
    "box_head_dim": 96,
}
"""The lightweight preset, by setting name."""

DEBUG: dict[str, Any] = {"epochs": 100, "augmentation": False, "val_frequency": 2}
"""The debug preset without the learning rate, which is ``debug_lr``."""


def preset_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the presets that the given settings turn on."""
    settings: dict[str, Any] = {}
    if given.get("lightweight"):
        settings |= LIGHTWEIGHT
    if given.get("debug"):
        settings |= DEBUG | {"learning_rate": given.get("debug_lr", SubsetConfig.debug_lr)}
    return settings
