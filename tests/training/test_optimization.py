"""Learning rates of the parts and layers, and weight decay."""

from __future__ import annotations

import re

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dino_detector.inference.detector import build_detector
from dino_detector.structures.categories import Categories
from dino_detector.training.optimization import build_optimizer


@pytest.fixture
def detector(settings, tmp_path):
    def build(**changes):
        return build_detector(settings(tmp_path, **changes), categories=Categories((1, 2), ("a", "b")))

    return build


PEAKS = [
    pytest.param({"train_backbone": "lora", "backbone_learning_rate": 5e-5}, 5e-5, id="given"),
    pytest.param({"train_backbone": "lora"}, 1e-3, id="adapters"),
    pytest.param({"train_backbone": "full"}, 1e-3, id="from-scratch"),
]


@pytest.mark.parametrize(("changes", "backbone_peak"), PEAKS)
def test_backbone_and_decoder_have_their_own_rates(detector, changes, backbone_peak):
    model = detector(learning_rate=1e-3, **changes)
    wanted = {
        id(parameter): backbone_peak if name.startswith("backbone.") else 1e-3
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    groups = build_optimizer(model, model.config).param_groups
    assert {id(parameter): group["lr"] for group in groups for parameter in group["params"]} == wanted


def test_pretrained_weights_are_tuned_at_a_tenth_of_the_rate(detector, dinov2_folder):
    model = detector(
        backbone_weights="pretrained", backbone_architecture={}, dino_model=str(dinov2_folder), train_backbone="full"
    )
    groups = build_optimizer(model, model.config).param_groups
    assert {group["name"]: group["lr"] for group in groups} == pytest.approx(
        {"backbone": 1e-4, "backbone_no_decay": 1e-4, "decoder": 1e-3, "decoder_no_decay": 1e-3}
    )


def vit_lr_decay_rate(name: str, rate: float, num_layers: int) -> float:
    """Return a parameter's learning-rate factor in detectron2's ViTDet (``get_vit_lr_decay_rate``), by our names."""
    layer_id = num_layers + 1
    if name.startswith("backbone"):
        if ".embeddings." in name:
            layer_id = 0
        elif match := re.search(r"\.layer\.(\d+)\.", name):
            layer_id = int(match[1]) + 1
    return rate ** (num_layers + 1 - layer_id)


FOUR_LAYERS = {"backbone_weights": "pretrained", "backbone_architecture": {}, "layer_decay": 0.5, "learning_rate": 1e-3}


@pytest.mark.parametrize("changes", [{"train_backbone": "full"}, {"lora_layers": 3, "use_dora": True}, {}])
def test_rates_decay_by_layers_as_in_vitdet(detector, dinov2_folder, changes):
    settings = FOUR_LAYERS | {"train_backbone": "lora", "backbone_learning_rate": 8e-4} | changes
    model = detector(dino_model=str(dinov2_folder), **settings)
    wanted = {
        id(parameter): (8e-4 if name.startswith("backbone.") else 1e-3) * vit_lr_decay_rate(name, 0.5, 4)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    groups = build_optimizer(model, model.config).param_groups
    assert {id(parameter): group["lr"] for group in groups for parameter in group["params"]} == pytest.approx(wanted)


@pytest.mark.parametrize(("train_backbone", "decay"), [("full", 0.8), ("lora", 1.0)])
def test_rates_decay_by_layers_unless_it_is_adapters_that_train(detector, train_backbone, decay):
    def rates(**changes):
        model = detector(train_backbone=train_backbone, **changes)
        return [(group["name"], group["lr"]) for group in build_optimizer(model, model.config).param_groups]

    assert rates(layer_decay=None) == rates(layer_decay=decay)
    assert rates(layer_decay=None) != rates(layer_decay=0.5)


def test_groups_that_decay_by_layers_are_named_by_them(detector, dinov2_folder):
    model = detector(dino_model=str(dinov2_folder), **FOUR_LAYERS, train_backbone="full")
    groups = {group["name"]: group["lr"] for group in build_optimizer(model, model.config).param_groups}
    assert groups == pytest.approx(
        {
            "backbone_embeddings": 1e-4 / 32,
            "backbone_embeddings_no_decay": 1e-4 / 32,
            **{f"backbone_layer_{layer}": 1e-4 / 2 ** (4 - layer) for layer in range(4)},
            **{f"backbone_layer_{layer}_no_decay": 1e-4 / 2 ** (4 - layer) for layer in range(4)},
            "backbone_norm_no_decay": 1e-4,
            "decoder": 1e-3,
            "decoder_no_decay": 1e-3,
        }
    )


def test_layers_that_are_left_out_do_not_count(detector, dinov2_folder):
    model = detector(dino_model=str(dinov2_folder), **FOUR_LAYERS, train_backbone="full", feature_layers=[1])
    groups = {group["name"]: group["lr"] for group in build_optimizer(model, model.config).param_groups}
    assert (groups["backbone_layer_1"], groups["backbone_layer_0"]) == pytest.approx((1e-4 / 2, 1e-4 / 4))
    assert "backbone_layer_2" not in groups


@pytest.mark.parametrize("train_backbone", ["full", "lora"])
@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"layer_decay": 0.7}])
def test_matrices_decay_but_no_bias_norm_query_embedding_or_magnitude(detector, train_backbone, changes):
    model = detector(weight_decay=0.03, train_backbone=train_backbone, **changes)
    decay = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(model, model.config).param_groups
        for parameter in group["params"]
    }
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert decay.keys() == {id(parameter) for parameter in named.values()}
    exempt = (
        "bias",
        "norm",
        "contents",
        "initial_boxes",
        "label_embedding",
        "cls_token",
        "position_embeddings",
        "lambda",
        "layer_scale",
    )
    assert any("magnitude" in name for name in named) == (train_backbone == "lora" and "use_dora" in changes)
    for name, parameter in named.items():
        matrix = parameter.ndim >= 2 and not any(word in name for word in exempt)
        assert decay[id(parameter)] == (0.03 if matrix else 0.0), name
    assert {0.0, 0.03} == set(decay.values())


@pytest.mark.parametrize("resumed", [True, None], ids=["resumed in 16", "resumed in bf16"])
def test_all_weights_are_updated_by_one_kernel_but_in_16_also_in_a_resumed_run(detector, resumed):
    """With precision 16 torch chooses the kernel; on a GPU it uses one kernel for many weights."""
    model = detector()
    other, own = ("bf16", "16") if resumed else ("16", "bf16")
    before = build_optimizer(model, model.config.replace(precision=other))
    optimizer = build_optimizer(model, model.config.replace(precision=own))
    for _ in range(2):
        assert {group["fused"] for group in optimizer.param_groups} == {None if own == "16" else True}
        optimizer.load_state_dict(before.state_dict())


class GradientNorms(Callback):
    """Record the norm of all gradients that reach the optimizer."""

    def __init__(self):
        self.seen = []

    def on_before_zero_grad(self, trainer, module, optimizer):
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        if gradients:
            self.seen.append(torch.nn.utils.get_total_norm(gradients).item())


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_gradients_are_clipped_in_every_precision(tmp_path, train, precision):
    clipped, free = GradientNorms(), GradientNorms()
    train(tmp_path / "clipped", clipped, gradient_clip=0.25, precision=precision, epochs=1)
    train(tmp_path / "free", free, gradient_clip=0.0, precision=precision, epochs=1)
    assert min(free.seen) > 0.25
    assert clipped.seen == pytest.approx([0.25] * len(free.seen), rel=1e-4)
