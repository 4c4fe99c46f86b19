"""Copied layers give the outputs of the originals, and follow every change of the weights."""

from __future__ import annotations

import copy
import pickle
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import backbone_of, images, with_adapters
from torch import Tensor, nn

from dino_detector.config import BackboneConfig
from dino_detector.models import layer_copies
from dino_detector.models.cpu.packed_linear import PackedLinear, packs
from dino_detector.models.dinov2_backbone import Dinov2Backbone, build_backbone
from dino_detector.models.layer_copies import LayerCopies

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]


def needs_packing(dtype: torch.dtype) -> None:
    if not packs(dtype, CPU):
        pytest.skip(f"this processor has no packed kernels for {dtype}")


def autocast(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)


def copied_layers(backbone: Dinov2Backbone) -> list[int]:
    """Return the layers that run through a copy."""
    layers = backbone.model.encoder.layer
    return [index for index, layer in enumerate(layers) if backbone.run_layer.faster(layer, CPU) is not layer]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7, 24), (3, 50, 24), (24,)], ids=str)
def test_a_packed_layer_computes_what_the_layer_does(dtype: torch.dtype, bias: bool, shape: tuple[int, ...]):
    needs_packing(dtype)
    torch.manual_seed(0)
    linear, inputs = nn.Linear(24, 40, bias=bias), torch.randn(shape)
    with torch.no_grad(), autocast(dtype):
        expected, found = linear(inputs), PackedLinear(linear, dtype)(inputs)
    assert found.dtype == expected.dtype == dtype
    if dtype == torch.bfloat16:
        exact = nn.functional.linear(
            inputs.double(), linear.weight.double(), None if not bias else linear.bias.double()
        )
        assert (found.double() - exact).abs().max() <= (expected.double() - exact).abs().max() * 1.01
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("folder", ["dinov2_folder", "dinov2_registers_folder", "dinov2_swiglu_folder"])
def test_a_backbone_with_copies_gives_the_maps_of_one_without(
    folder: str, dtype: torch.dtype, request: pytest.FixtureRequest
):
    needs_packing(dtype)
    backbone = with_adapters(backbone_of(request.getfixturevalue(folder))).eval()
    backbone.merge_adapters()
    with torch.no_grad(), autocast(dtype):
        (expected,) = backbone(images())
        backbone.run_layer = LayerCopies(dtype)
        assert copied_layers(backbone) == list(range(backbone.depth))
        (found,) = backbone(images())
    torch.testing.assert_close(found, expected)


def test_in_training_the_trunk_alone_runs_in_copies_and_gradients_stay(dinov2_folder: Path):
    needs_packing(torch.float32)

    def gradients(*, copies: bool) -> dict[str, Tensor]:
        backbone = with_adapters(backbone_of(dinov2_folder)).train()
        if copies:
            backbone.run_layer = LayerCopies(torch.float32, frozen_only=True)
            assert copied_layers(backbone) == []  # with gradients
            with torch.no_grad():
                assert copied_layers(backbone) == list(range(backbone.trunk_depth)) != []
        (features,) = backbone(images())
        features.square().sum().backward()
        return {name: one.grad for name, one in backbone.named_parameters() if one.grad is not None}

    plain, found = gradients(copies=False), gradients(copies=True)
    assert plain.keys() == found.keys()
    assert plain
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_follow_weights_that_change(dinov2_folder: Path, dtype: torch.dtype):
    backbone = with_adapters(backbone_of(dinov2_folder, train_backbone="full")).eval()
    backbone.run_layer = LayerCopies(dtype)
    with torch.no_grad(), autocast(dtype):
        (before,) = backbone(images())
        for parameter in backbone.parameters():
            parameter.mul_(1.5)
        (changed,) = backbone(images())
        backbone.run_layer = nn.Module.__call__
        (expected,) = backbone(images())
    assert not torch.allclose(changed, before)
    torch.testing.assert_close(changed, expected)


def test_layers_with_adapters_are_copied_while_these_are_merged(dinov2_folder: Path):
    needs_packing(torch.float32)
    backbone = with_adapters(backbone_of(dinov2_folder, lora_layers=None)).eval()
    backbone.run_layer = LayerCopies(torch.float32)
    with torch.no_grad():
        (expected,) = backbone(images())
        assert copied_layers(backbone) == []
        backbone.merge_adapters()
        assert copied_layers(backbone) == list(range(backbone.depth))
        torch.testing.assert_close(backbone(images())[0], expected)
        backbone.unmerge_adapters()
        assert copied_layers(backbone) == []
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.5)
        (changed,) = backbone(images())
        backbone.merge_adapters()
        torch.testing.assert_close(backbone(images())[0], changed, atol=1e-3, rtol=1e-3)
        assert not torch.allclose(changed, expected)


def test_loaded_weights_are_used_at_once():
    settings = {"backbone_weights": "random", "backbone_architecture": {"hidden_size": 48, "num_attention_heads": 3}}
    one, other = (
        build_backbone(BackboneConfig(train_backbone="none", feature_layers=[2], **settings)).eval() for _ in range(2)
    )
    one.run_layer = LayerCopies(torch.float32)
    with torch.no_grad():
        one(images())
        one.load_state_dict(other.state_dict())
        torch.testing.assert_close(one(images()), other(images()))


def test_a_copy_of_a_model_or_one_in_another_process_makes_its_own(dinov2_folder: Path):
    backbone = with_adapters(backbone_of(dinov2_folder)).eval()
    backbone.merge_adapters()
    backbone.run_layer = LayerCopies(torch.float32)
    with torch.no_grad():
        (expected,) = backbone(images())
        for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            torch.testing.assert_close(other(images())[0], expected)
            other.model.encoder.layer[0].layer_scale1.lambda1.mul_(2)
            assert not torch.allclose(other(images())[0], expected)
        torch.testing.assert_close(backbone(images())[0], expected)


def test_export_sees_the_layers(dinov2_folder: Path):
    backbone = with_adapters(backbone_of(dinov2_folder)).eval()
    backbone.merge_adapters()
    backbone.run_layer = LayerCopies(torch.float32)
    with torch.no_grad():
        (expected,) = backbone(images())
        program = torch.export.export(backbone, (images(),))
    assert not [node for node in program.graph.nodes if "mkldnn" in str(node.target)]
    torch.testing.assert_close(program.module()(images())[0], expected)


def test_where_nothing_can_be_packed_a_lower_precision_is_kept_and_float32_runs_as_it_is(
    dinov2_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(layer_copies, "packs", lambda dtype, device: False)
    backbone = with_adapters(backbone_of(dinov2_folder)).eval()
    backbone.merge_adapters()
    layer = backbone.model.encoder.layer[0]
    with torch.no_grad():
        assert LayerCopies(torch.float32).faster(layer, CPU) is layer
        copies = LayerCopies(torch.bfloat16)
        assert copies.faster(layer, CPU) is layer  # without autocast
        with torch.autocast("cpu", torch.bfloat16):
            copied = copies.faster(layer, CPU)
            hidden = torch.randn(1, 5, backbone.hidden_size)
            assert torch.equal(copied(hidden), layer(hidden))
    linears = [part for part in copied.modules() if isinstance(part, nn.Linear)]
    assert {part.weight.dtype for part in linears} == {torch.bfloat16}
    assert not [part for part in copied.modules() if isinstance(part, PackedLinear)]
