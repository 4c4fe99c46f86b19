"""Learning rates, their course over the steps, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import AdamW

from dino_detector.data.categories import Categories
from dino_detector.models.detector import build_detector
from dino_detector.training.optimization import build_optimizer, warmup_cosine


def rates(total_steps: int, warmup_fraction: float) -> list[float]:
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=total_steps, warmup_fraction=warmup_fraction)
    seen = []
    for _ in range(total_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_rate_rises_to_its_peak_and_falls_along_a_cosine():
    seen = rates(total_steps=50, warmup_fraction=0.2)
    assert seen[:10] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    assert seen[10] == pytest.approx(2.0)
    assert seen[20] == pytest.approx(2 * (0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2))  # a quarter of the way: cos 45°
    assert seen[30] == pytest.approx(2 * 0.505)  # half way, between 1 and 0.01
    assert seen[40] == pytest.approx(2 * (0.01 + 0.99 * (1 - math.sqrt(0.5)) / 2))
    assert 0.02 < seen[49] < 0.03  # one step before a hundredth of the peak
    assert seen[10:] == sorted(seen[10:], reverse=True)


def test_first_step_is_never_of_rate_zero():
    assert min(rates(total_steps=3, warmup_fraction=0.0)) > 0
    assert rates(total_steps=1, warmup_fraction=0.0) == [2.0]


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


@pytest.mark.parametrize("train_backbone", ["full", "lora"])
def test_matrices_decay_but_no_bias_norm_query_or_embedding(detector, train_backbone):
    model = detector(weight_decay=0.03, train_backbone=train_backbone)
    decay = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(model, model.config).param_groups
        for parameter in group["params"]
    }
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert decay.keys() == {id(parameter) for parameter in named.values()}
    exempt = ("bias", "norm", "contents", "initial_boxes", "cls_token", "position_embeddings", "lambda", "layer_scale")
    for name, parameter in named.items():
        matrix = parameter.ndim >= 2 and not any(word in name for word in exempt)
        assert decay[id(parameter)] == (0.03 if matrix else 0.0), name
    assert {0.0, 0.03} == set(decay.values())


class Rates(Callback):
    """The decoder's rate at each optimizer step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.seen.append({group["name"]: group["lr"] for group in optimizer.param_groups}["decoder"])


@pytest.mark.parametrize(("batch_size", "accumulate", "steps"), [(2, 1, 12), (2, 3, 6), (1, 3, 9), (8, 1, 3)])
def test_schedule_spans_exactly_the_steps_of_the_run(tmp_path, train, batch_size, accumulate, steps):
    seen = Rates()
    train(
        tmp_path,
        seen,
        batch_size=batch_size,
        accumulate_batches=accumulate,
        warmup_fraction=0.34,
        learning_rate=1e-3,
        val_frequency=3,
    )
    warmup = round(steps * 0.34)
    angles = [math.pi * step / (steps - warmup) for step in range(steps - warmup)]
    wanted = [(step + 1) / warmup for step in range(warmup)] + [0.01 + 0.99 * (1 + math.cos(a)) / 2 for a in angles]
    assert seen.seen == pytest.approx([1e-3 * factor for factor in wanted])
