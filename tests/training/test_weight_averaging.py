"""The moving average: its warm-up, its memory, and its use in evaluation and checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from dino_detector.inference.detector import Detector
from dino_detector.training.evaluation import evaluate
from dino_detector.training.optimization import MovingAverage

FROZEN = {"backbone_weights": "pretrained", "backbone_architecture": {}, "train_backbone": "lora"}


def average_of(trainer):
    (callback,) = (callback for callback in trainer.callbacks if isinstance(callback, MovingAverage))
    return callback._average_model.module


class Trace(Callback):
    """Record the weights after each step, and the average."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.weights, self.averages = [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.weights.append(module.get_parameter(self.name).detach().double().clone())
        self.averages.append(average_of(trainer).get_parameter(self.name).detach().double().clone())


def test_decay_rises_as_1_plus_n_over_10_plus_n_up_to_its_setting(tmp_path, train):
    trace = Trace("detector.decoder.class_heads.1.weight")
    train(tmp_path, trace, ema_decay=0.35, epochs=2, val_frequency=2)
    assert len(trace.weights) == 8
    wanted = trace.weights[0]  # the average starts as the weights of the first step
    assert torch.allclose(trace.averages[0], wanted)
    ramp = [2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17]
    for step, factor in enumerate(ramp, start=1):
        kept = min(0.35, factor)
        wanted = kept * wanted + (1 - kept) * trace.weights[step]
        assert torch.allclose(trace.averages[step], wanted, atol=1e-7)
    assert not torch.allclose(trace.averages[-1], trace.weights[-1], atol=1e-6)


@pytest.mark.parametrize(
    ("warmup", "ramp"),
    [
        (0, [0.9] * 7),
        (1, [0.9] * 7),
        (2, [2 / 3, 3 / 4, 4 / 5, 5 / 6, 6 / 7, 7 / 8, 8 / 9]),
        (3, [2 / 4, 3 / 5, 4 / 6, 5 / 7, 6 / 8, 7 / 9, 8 / 10]),
        (1000, [2 / 1001, 3 / 1002, 4 / 1003, 5 / 1004, 6 / 1005, 7 / 1006, 8 / 1007]),
    ],
)
def test_warmup_is_a_setting(warmup, ramp):
    wanted = [1.0]  # the weight after each step is the number of the step
    for step, kept in enumerate(ramp, start=2):
        wanted.append(kept * wanted[-1] + (1 - kept) * step)
    assert averages_of_a_climb(8, decay=0.9, warmup=warmup) == pytest.approx(wanted)


def test_a_run_takes_the_warmup_of_its_settings(tmp_path, train):
    class Look(Callback):
        def on_train_start(self, trainer, module):
            (average,) = (callback for callback in trainer.callbacks if isinstance(callback, MovingAverage))
            assert (average.decay, average.warmup) == (0.9, 3)

    train(tmp_path, Look(), ema_decay=0.9, ema_warmup=3, epochs=1)


def averages_of_a_climb(steps: int, **settings: Any) -> list[float]:
    """Return the average after each step of a weight that equals the number of the step."""
    callback, model, seen = MovingAverage(**settings), nn.Linear(1, 1, bias=False).double(), []
    callback.setup(None, model, "fit")
    for step in range(1, steps + 1):
        model.weight.data.fill_(step)
        callback.on_train_batch_end(SimpleNamespace(global_step=step), model, None, None, step)
        seen.append(callback.averages[0].item())
    return seen


@pytest.mark.parametrize(("warmup", "steps"), [(10, 200), (10, 800), (5, 400)])
def test_weights_in_the_average_are_as_old_as_a_share_of_the_steps_however_many_there_are(warmup, steps):
    """From age(n) = decay(n) (age(n - 1) + 1), for large n: age(n) = n / warmup."""
    age = steps - averages_of_a_climb(steps, decay=0.9999, warmup=warmup)[-1]
    assert age == pytest.approx(steps / warmup, rel=0.05)


def test_a_short_run_has_left_its_first_weights_behind():
    """After 100 steps with a decay of 0.999 from the start, the first weights would still be 90 % of the average."""
    without, with_warmup = (averages_of_a_climb(100, decay=0.999, warmup=warmup)[-1] for warmup in (0, 10))
    assert without == pytest.approx(sum(0.999**age * (0.001 if age < 99 else 1) * (100 - age) for age in range(100)))
    assert without < 10
    assert with_warmup > 89


def test_frozen_weights_are_shared_and_trained_ones_are_not(tmp_path, train, dinov2_folder):
    class Look(Callback):
        def on_train_end(self, trainer, module):
            average = dict(average_of(trainer).named_parameters())
            for name, parameter in module.named_parameters():
                shared = average[name].data_ptr() == parameter.data_ptr()
                assert shared is not parameter.requires_grad, name
            self.frozen = sum(not parameter.requires_grad for parameter in module.parameters())

    look = Look()
    train(tmp_path, look, **FROZEN, dino_model=str(dinov2_folder), epochs=1)
    assert look.frozen > 50


def test_average_is_what_is_evaluated_and_the_weights_go_on_unharmed(tmp_path, train):
    class Look(Callback):
        def __init__(self):
            self.evaluated = 0

        def on_train_epoch_start(self, trainer, module):
            self.raw = None

        def on_train_batch_end(self, trainer, module, *_):
            self.raw = {name: value.detach().clone() for name, value in module.named_parameters()}
            self.average = {name: value.detach().clone() for name, value in average_of(trainer).named_parameters()}

        def on_validation_batch_start(self, trainer, module, *_):
            for name, value in module.named_parameters():
                assert torch.equal(value, self.average[name]), name
            assert any(not torch.equal(self.raw[name], self.average[name]) for name in self.raw)
            self.evaluated += 1

        def on_train_epoch_end(self, trainer, module):
            for name, value in module.named_parameters():
                assert torch.equal(value, self.raw[name]), name

    look = Look()
    run = train(tmp_path, look, epochs=2)
    assert look.evaluated == 6
    saved = run.checkpoint("epoch_2")
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in look.average.items())
    assert all(torch.equal(saved["current_model_state"][name], value) for name, value in look.raw.items())
    loaded = dict(Detector.load(tmp_path / "dino_detector_epoch_2.pth", device="cpu").named_parameters())
    assert all(torch.equal(loaded[name.removeprefix("detector.")], value) for name, value in look.average.items())


def test_position_embeddings_of_the_average_are_used(tmp_path, train):
    """The interpolated table is cached between batches, and must not outlive a swap of the weights."""
    run = train(tmp_path, learning_rate=3e-2, image_size=84, ema_decay=0.99, epochs=2)
    for epoch in (1, 2):
        checkpoint = tmp_path / f"dino_detector_epoch_{epoch}.pth"
        again = evaluate(replace(run.config, training=replace(run.config.training, checkpoint=checkpoint))).metrics
        written = json.loads((tmp_path / f"val_metrics_epoch_{epoch}.json").read_text())
        assert again.AP50 == pytest.approx(written["AP50"], abs=1e-6)
        assert again.AR100 == pytest.approx(written["AR100"], abs=1e-6)


def test_no_average_is_kept_with_a_decay_of_zero(tmp_path, train):
    class Look(Callback):
        def on_train_end(self, trainer, module):
            assert not any(isinstance(callback, MovingAverage) for callback in trainer.callbacks)
            self.raw = {name: value.detach().clone() for name, value in module.named_parameters()}

    look = Look()
    run = train(tmp_path, look, ema_decay=0.0, epochs=1)
    saved = run.checkpoint("final")
    assert "current_model_state" not in saved
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in look.raw.items())
    Detector.load(tmp_path / "dino_detector_final.pth", device="cpu")
