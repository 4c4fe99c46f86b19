"""Ranks and scales of adapters by layer, rank-stabilised LoRA and DoRA, against their formulas."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dino_detector.config import BackboneConfig
from dino_detector.errors import InputError
from dino_detector.models.dinov2_backbone import Dinov2Backbone, build_backbone
from dino_detector.models.dinov2_base import fingerprint, load_pretrained

ALL = ["query", "key", "value", "output", "mlp"]


@pytest.fixture(params=["dinov2_folder", "dinov2_registers_folder", "dinov2_swiglu_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def backbone_of(folder: Path, **settings: Any) -> Dinov2Backbone:
    """Return a backbone of four layers; the last three have adapters of rank 2."""
    usual = {"dino_model": str(folder), "lora_layers": 3, "lora_rank": 2, "feature_layers": [-1]}
    return build_backbone(BackboneConfig(**usual | settings))


def trained(backbone: Dinov2Backbone) -> Dinov2Backbone:
    """Change the trainable weights at random, as training does; fresh adapters have no effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return backbone


def images() -> Tensor:
    return torch.randn(2, 3, 56, 84, generator=torch.Generator().manual_seed(0))


def value_projection(backbone: Dinov2Backbone, layer: int) -> nn.Module:
    return backbone.model.encoder.layer[layer].attention.v_proj


def low_rank_product(backbone: Dinov2Backbone, layer: int) -> Tensor:
    """Return B A of the value projection of a layer."""
    projection = value_projection(backbone, layer)
    return projection.lora_B["default"].weight @ projection.lora_A["default"].weight


# --- ranks and scales ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "ranks"),
    [
        ({}, {1: 2, 2: 2, 3: 2}),
        ({"3": 5}, {1: 2, 2: 2, 3: 5}),
        ({"1-2": 1, "3": 4}, {1: 1, 2: 1, 3: 4}),
        ({"1-3": 3}, {1: 3, 2: 3, 3: 3}),
    ],
)
def test_layers_in_a_range_have_its_rank_and_other_layers_lora_rank(
    dinov2_folder: Path, pattern: dict[str, int], ranks: dict[int, int]
):
    backbone = backbone_of(dinov2_folder, lora_rank_pattern=pattern, lora_targets=ALL)
    found: dict[int, set[int]] = {}
    for name, parameter in backbone.named_parameters():
        if match := re.search(r"layer\.(\d+)\..*\.lora_(A|B)\.", name):
            found.setdefault(int(match[1]), set()).add(parameter.shape[0 if match[2] == "A" else 1])
    assert found == {layer: {rank} for layer, rank in ranks.items()}


def test_layer_1_is_not_mistaken_for_layer_11():
    """The layers are 1, 10 and 11 of 12."""
    config = BackboneConfig(
        backbone_weights="random",
        backbone_architecture={"hidden_size": 8, "num_attention_heads": 2, "image_size": 28, "mlp_ratio": 1},
        lora_layers=None,
        lora_rank=2,
        lora_rank_pattern={"1": 3},
    )
    ranks = {
        int(re.search(r"layer\.(\d+)\.", name)[1]): len(parameter)
        for name, parameter in build_backbone(config).named_parameters()
        if "lora_A" in name
    }
    assert ranks == {layer: 3 if layer == 1 else 2 for layer in range(12)}


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, {1: 6 / 2, 2: 6 / 2, 3: 6 / 2}),
        ({"lora_rank_pattern": {"3": 4}}, {1: 6 / 2, 2: 6 / 2, 3: 6 / 4}),
        ({"lora_alpha_pattern": {"1-2": 1.0}}, {1: 1 / 2, 2: 1 / 2, 3: 6 / 2}),
        ({"lora_rank_pattern": {"2": 4}, "lora_alpha_pattern": {"2": 10.0}}, {1: 6 / 2, 2: 10 / 4, 3: 6 / 2}),
        ({"use_rslora": True}, {layer: 6 / math.sqrt(2) for layer in (1, 2, 3)}),
        (
            {"use_rslora": True, "lora_rank_pattern": {"3": 4}, "lora_alpha_pattern": {"1": 1.0}},
            {1: 1 / math.sqrt(2), 2: 6 / math.sqrt(2), 3: 6 / math.sqrt(4)},
        ),
    ],
)
def test_a_merged_weight_is_the_base_plus_the_scaled_product(
    dinov2_folder: Path, settings: dict[str, Any], scales: dict[int, float]
):
    backbone = trained(backbone_of(dinov2_folder, lora_alpha=6.0, **settings))
    base = {layer: value_projection(backbone, layer).base_layer.weight.detach().clone() for layer in scales}
    backbone.merge_adapters()
    for layer, scale in scales.items():
        expected = base[layer] + scale * low_rank_product(backbone, layer)
        torch.testing.assert_close(value_projection(backbone, layer).base_layer.weight, expected)


@pytest.mark.parametrize("setting", ["lora_rank_pattern", "lora_alpha_pattern"])
@pytest.mark.parametrize(
    ("ranges", "lora_layers", "message"),
    [
        ({"0-1": 4}, 3, "has layer 0, but lora_layers puts adapters on layers 1 to 3"),
        ({"2-4": 4}, 3, "has layer 4, but lora_layers puts adapters on layers 1 to 3"),
        ({"4": 4}, None, "has layer 4, but lora_layers puts adapters on layers 0 to 3"),
    ],
)
def test_a_range_of_layers_without_adapters_is_refused(
    dinov2_folder: Path, setting: str, ranges: dict[str, int], lora_layers: int | None, message: str
):
    with pytest.raises(InputError, match=f"^{setting} {message}"):
        backbone_of(dinov2_folder, lora_layers=lora_layers, **{setting: ranges})


def test_layers_above_the_last_feature_layer_have_no_rank(dinov2_folder: Path):
    with pytest.raises(InputError, match="has layer 3, but lora_layers puts adapters on layers 0 to 2"):
        backbone_of(dinov2_folder, feature_layers=[2], lora_rank_pattern={"2-3": 4})


# --- DoRA ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_dora_weight_is_the_direction_of_the_adapted_one_times_the_magnitude(dinov2_folder: Path, use_rslora: bool):
    """Equation 5 of https://arxiv.org/abs/2402.09353; norms are taken over the weights of an output."""
    backbone = trained(backbone_of(dinov2_folder, use_dora=True, lora_alpha=6.0, use_rslora=use_rslora))
    projection = value_projection(backbone, 3)
    magnitude = projection.lora_magnitude_vector["default"].weight
    adapted = projection.base_layer.weight + 6.0 / (math.sqrt(2) if use_rslora else 2) * low_rank_product(backbone, 3)
    expected = magnitude[:, None] * adapted / adapted.norm(dim=1, keepdim=True)
    tokens = torch.randn(5, 32)
    torch.testing.assert_close(projection(tokens), nn.functional.linear(tokens, expected, projection.base_layer.bias))
    backbone.merge_adapters()
    torch.testing.assert_close(projection.base_layer.weight, expected)


def test_fresh_dora_changes_nothing(folder: Path):
    with torch.no_grad():
        (plain,) = backbone_of(folder, train_backbone="none").eval()(images())
        (found,) = backbone_of(folder, use_dora=True, lora_targets=ALL).eval()(images())
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_dora_merges_once_gives_the_same_maps_and_comes_out_again(folder: Path):
    backbone = trained(backbone_of(folder, use_dora=True, lora_targets=ALL)).eval()
    before = {name: value.clone() for name, value in backbone.named_parameters()}
    with torch.no_grad():
        (plain,) = backbone(images())
        backbone.merge_adapters()
        backbone.merge_adapters()
        (merged,) = backbone(images())
        assert any(not torch.equal(value, before[name]) for name, value in backbone.named_parameters())
        backbone.unmerge_adapters()
    torch.testing.assert_close(merged, plain, rtol=1e-3, atol=1e-3)
    for name, value in backbone.named_parameters():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("use_dora", [False, True])
def test_merged_adapters_come_out_again_on_another_device(dinov2_folder: Path, use_dora: bool):
    """Use the device meta, which every machine has: it holds no numbers, but refuses tensors of the CPU."""
    backbone = trained(backbone_of(dinov2_folder, use_dora=use_dora)).eval()
    backbone.merge_adapters()
    backbone.to("meta")
    assert backbone.adapters_are_merged
    backbone.unmerge_adapters()
    assert not backbone.adapters_are_merged


def test_magnitudes_train_and_the_base_does_not(dinov2_folder: Path):
    backbone = trained(backbone_of(dinov2_folder, use_dora=True)).train()
    base = fingerprint(backbone.model)
    before = {name: value.clone() for name, value in backbone.named_parameters()}
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.1, weight_decay=0.5)
    backbone(images())[0].square().sum().backward()
    optimizer.step()
    changed = {name for name, value in backbone.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    assert sum("lora_magnitude_vector" in name for name in changed) == 2 * 3  # query and value of three layers
    assert fingerprint(backbone.model) == base


def test_the_fingerprint_does_not_know_of_magnitudes(
    dinov2_folder: Path, write_dinov2: Callable[..., Path], tmp_path: Path
):
    base = load_pretrained(str(dinov2_folder))
    base.embeddings.mask_token = None
    assert fingerprint(trained(backbone_of(dinov2_folder, use_dora=True)).model) == fingerprint(base)
    other = write_dinov2(tmp_path / "other", seed=1)
    assert fingerprint(backbone_of(other, use_dora=True).model) != fingerprint(base)


def test_magnitudes_are_stored_and_missed(dinov2_folder: Path):
    backbone = trained(backbone_of(dinov2_folder, use_dora=True))
    state = backbone.state_dict()
    assert set(state) == {name for name, value in backbone.named_parameters() if value.requires_grad}
    assert len(state) == 3 * 2 * 3  # A, B and magnitude of two projections in three layers
    fresh = backbone_of(dinov2_folder, use_dora=True)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.eval()(images())[0], backbone.eval()(images())[0])
    lost = next(name for name in state if "magnitude" in name)
    del state[lost]
    with pytest.raises(RuntimeError, match=re.escape(lost)):
        fresh.load_state_dict(state)
    with pytest.raises(RuntimeError, match="lora_magnitude_vector"):
        backbone_of(dinov2_folder).load_state_dict(backbone.state_dict())
