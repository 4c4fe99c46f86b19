"""Backbones from a folder, and images for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino_detector.config import BackboneConfig
from dino_detector.models.dinov2_backbone import Dinov2Backbone, build_backbone


def backbone_of(folder: Path, **settings: Any) -> Dinov2Backbone:
    usual = {"dino_model": str(folder), "lora_layers": 2, "lora_rank": 2, "feature_layers": [-1]}
    return build_backbone(BackboneConfig(**usual | settings))


def with_adapters(backbone: Dinov2Backbone) -> Dinov2Backbone:
    """Give the adapters random values; they start without effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return backbone


def images(height: int = 56, width: int = 84, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
