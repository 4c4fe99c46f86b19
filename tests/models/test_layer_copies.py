"""Copies of layers compute what the layers do, and no longer than these stay as they are."""

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
from torch.utils._python_dispatch import TorchDispatchMode

from dino_detector.config import BackboneConfig
from dino_detector.models.cpu import layer_copies
from dino_detector.models.cpu.layer_copies import LayerCopies, PackedLinear, packs
from dino_detector.models.dinov2_backbone import Dinov2Backbone, build_backbone

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]


def needs_packing(dtype: torch.dtype) -> None:
    if not packs(dtype, CPU):
        pytest.skip(f"this processor has no packed kernels for {dtype}")


def autocast(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)


class Products(TorchDispatchMode):
    """How many products of matrices run in PyTorch's own layers, and how many in packed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.own = self.packed = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.own += func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
        self.packed += func is torch.ops.mkldnn._linear_pointwise.default
        return func(*args, **(kwargs or {}))


def products(backbone: Dinov2Backbone, dtype: torch.dtype) -> tuple[int, int]:
    with autocast(dtype), Products() as counted:
        backbone(images())
    return counted.own, counted.packed


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
        backbone.compute_in(dtype)
        (found,) = backbone(images())
        own, packed = products(backbone, dtype)
    assert own == 0 < packed
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_training_the_trunk_alone_runs_in_copies(dinov2_folder: Path, dtype: torch.dtype):
    needs_packing(dtype)
    backbone = with_adapters(backbone_of(dinov2_folder)).train()
    own, packed = products(backbone, dtype)
    assert packed == 0
    backbone.compute_in(dtype, trunk_alone=True)
    with_copies = products(backbone, dtype)
    in_trunk = own * backbone.trunk_depth / backbone.depth  # adapters' products come on top in the tail
    assert with_copies[0] + with_copies[1] == own
    assert 0 < with_copies[1] <= in_trunk

    with torch.no_grad():
        assert products(backbone.eval(), dtype) == with_copies
    assert products(backbone.train(), dtype) == with_copies


def test_gradients_beside_a_trunk_of_copies_are_those_without(dinov2_folder: Path):
    needs_packing(torch.float32)

    def gradients(*, copies: bool) -> dict[str, Tensor]:
        backbone = with_adapters(backbone_of(dinov2_folder)).train()
        if copies:
            backbone.compute_in(torch.float32, trunk_alone=True)
        (features,) = backbone(images())
        features.square().sum().backward()
        return {name: one.grad for name, one in backbone.named_parameters() if one.grad is not None}

    plain, found = gradients(copies=False), gradients(copies=True)
    assert plain.keys() == found.keys()
    assert plain
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_that_train_are_run_as_they_are_once_training_begins(dinov2_folder: Path, dtype: torch.dtype):
    backbone = with_adapters(backbone_of(dinov2_folder, train_backbone="full")).eval()
    backbone.compute_in(dtype)
    with torch.no_grad(), autocast(dtype):
        (before,) = backbone(images())
        backbone.train()
        for parameter in backbone.parameters():
            parameter.mul_(1.5)
        (changed,) = backbone.eval()(images())
        backbone.compute_in(None)
        (expected,) = backbone(images())
    assert not torch.equal(changed, before)
    assert torch.equal(changed, expected)


def test_a_layer_with_adapters_that_are_not_merged_is_not_copied(dinov2_folder: Path):
    needs_packing(torch.float32)
    backbone = with_adapters(backbone_of(dinov2_folder, lora_layers=None)).eval()
    backbone.compute_in(torch.float32)
    with torch.no_grad():
        assert products(backbone, torch.float32)[1] == 0
        backbone.merge_adapters()
        assert products(backbone, torch.float32)[0] == 0
        backbone.unmerge_adapters()
        assert products(backbone, torch.float32)[1] == 0


def test_loaded_weights_are_used_at_once():
    settings = {"backbone_weights": "random", "backbone_architecture": {"hidden_size": 48, "num_attention_heads": 3}}
    one, other = (
        build_backbone(BackboneConfig(train_backbone="none", feature_layers=[2], **settings)).eval() for _ in range(2)
    )
    one.compute_in(torch.float32)
    with torch.no_grad():
        one(images())
        one.load_state_dict(other.state_dict())
        torch.testing.assert_close(one(images()), other(images()))


def test_a_copy_of_a_model_or_one_in_another_process_makes_its_own(dinov2_folder: Path):
    backbone = with_adapters(backbone_of(dinov2_folder)).eval()
    backbone.merge_adapters()
    backbone.compute_in(torch.float32)
    with torch.no_grad():
        (expected,) = backbone(images())
        for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            torch.testing.assert_close(other(images())[0], expected)
            assert products(other, torch.float32)[1] == 0


def test_what_exports_a_model_sees_its_layers(dinov2_folder: Path):
    backbone = with_adapters(backbone_of(dinov2_folder)).eval()
    backbone.merge_adapters()
    backbone.compute_in(torch.float32)
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
    layer, copies = backbone.model.encoder.layer[0], LayerCopies()
    with torch.no_grad():
        copies.prepare(torch.float32, 1)
        assert copies.of(0, layer, CPU) is layer
        copies.prepare(torch.bfloat16, 1)
        assert copies.of(0, layer, CPU) is layer  # no autocast
        with torch.autocast("cpu", torch.bfloat16):
            copied = copies.of(0, layer, CPU)
            hidden = torch.randn(1, 5, backbone.hidden_size)
            assert torch.equal(copied(hidden), layer(hidden))
    linears = [part for part in copied.modules() if isinstance(part, nn.Linear)]
    assert {part.weight.dtype for part in linears} == {torch.bfloat16}
    assert not [part for part in copied.modules() if isinstance(part, PackedLinear)]
