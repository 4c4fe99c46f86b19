"""The numbers of trained parameters that the presets promise, on the published architectures."""

from __future__ import annotations

import pytest
import torch

from dino_detector.commands.arguments import parse_settings
from dino_detector.config import Config
from dino_detector.inference.detector import build_detector
from dino_detector.structures.categories import Categories

SMALL = ["--dino_model", "facebook/dinov2-small"]
BASE = ["--dino_model", "facebook/dinov2-base"]


def trained(argv: list[str], *, classes: int = 80) -> int:
    """Count the trained parameters of a command line's detector; random weights avoid the download."""
    config, _ = parse_settings([Config], [*argv, "--backbone_weights", "random"], prog="train")
    with torch.device("meta"):
        detector = build_detector(config, categories=Categories(tuple(range(classes)), ("thing",) * classes))
    return sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("train_backbone", ["lora", "none"])
@pytest.mark.parametrize(
    ("standard", "lightweight"), [([], []), (SMALL, SMALL), ([], BASE)], ids=["as_they_are", "both_small", "both_base"]
)
def test_lightweight_trains_80_to_90_percent_fewer_parameters(
    standard: list[str], lightweight: list[str], train_backbone: str
):
    backbone = ["--train_backbone", train_backbone]
    kept = trained(["--lightweight", *lightweight, *backbone]) / trained([*standard, *backbone])
    assert 0.1 <= kept <= 0.2


def test_adapters_of_the_last_layers_are_all_that_trains_of_the_backbone():
    """A rank-r adapter of a d x d projection has 2 r d parameters; each layer adapts query and value."""
    standard, lightweight = ["--feature_layers", "6,9,11"], ["--lightweight", "--feature_layers", "9,11"]
    frozen = ["--train_backbone", "none"]
    assert trained(standard) - trained([*standard, *frozen]) == 6 * 2 * 2 * 16 * 768
    assert trained(lightweight) - trained([*lightweight, *frozen]) == 2 * 2 * 2 * 8 * 384
