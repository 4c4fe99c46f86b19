"""AdamW's moments take half the space in checkpoints, and a run goes on from them as if they did not."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import AdamW

from dino_detector.config.presets import LIGHTWEIGHT
from dino_detector.errors import StoppedByUser
from dino_detector.models.dinov2_base import random_architecture, untrained
from dino_detector.training.moments import round_moments, with_small_moments

LIGHTWEIGHT_SIZES = {name: value for name, value in LIGHTWEIGHT.items() if name != "dino_model"}


def moments_in(checkpoint: dict[str, Any]) -> list[torch.Tensor]:
    states = checkpoint["optimizer_states"][0]["state"].values()
    return [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]


@pytest.fixture
def stepped() -> AdamW:
    """After a step on a weight whose gradients are of many sizes."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(64, 64))
    optimizer = AdamW([weight])
    weight.grad = torch.randn(64, 64) * torch.logspace(-12, 3, 64)
    optimizer.step()
    return optimizer


def test_moments_are_rounded_to_eight_significant_bits(stepped):
    (state,) = stepped.state.values()
    before = {name: state[name].double() for name in ("exp_avg", "exp_avg_sq")}
    round_moments(stepped)
    for name, exact in before.items():
        error = (state[name].double() - exact).abs()
        assert 0 < (error / exact.abs()).max() <= 2**-8
        significand, _ = torch.frexp(state[name].double())
        assert torch.equal(significand * 2**8, (significand * 2**8).round())


def test_only_moments_that_are_rounded_are_stored_small(stepped):
    exact = stepped.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in with_small_moments(exact)["state"][0].values())
    round_moments(stepped)
    small = with_small_moments(stepped.state_dict())
    assert {name: value.dtype for name, value in small["state"][0].items()} == {
        "step": torch.float32,
        "exp_avg": torch.bfloat16,
        "exp_avg_sq": torch.bfloat16,
    }
    assert stepped.state_dict()["state"][0]["exp_avg"].dtype == torch.float32  # the optimizer's own are as they were

    fresh = AdamW([nn.Parameter(torch.zeros(64, 64))])
    fresh.load_state_dict(small)
    loaded, wanted = fresh.state_dict()["state"][0], stepped.state_dict()["state"][0]
    assert loaded.keys() == wanted.keys()
    for name in wanted:
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], wanted[name])


def test_an_optimizer_that_has_not_stepped_has_none():
    optimizer = AdamW([nn.Parameter(torch.zeros(3))])
    round_moments(optimizer)
    assert with_small_moments(optimizer.state_dict()) == optimizer.state_dict()


class StopInTheMiddle(Callback):
    """As Ctrl-C does, at the second batch of the first epoch."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(signal.SIGINT)


class LastMoments(Callback):
    """Keeps what the optimizer has at the end of the run."""

    def on_train_end(self, trainer, module):
        states = trainer.optimizers[0].state.values()
        self.moments = [state[name].clone() for state in states for name in ("exp_avg", "exp_avg_sq")]


def test_files_of_finished_epochs_have_them_small_and_one_from_within_an_epoch_exactly(tmp_path, train):
    kept = LastMoments()
    run = train(tmp_path / "whole", kept, epochs=2)
    for kind in ("epoch_1", "epoch_2", "best", "last", "final"):
        assert {moment.dtype for moment in moments_in(run.checkpoint(kind))} == {torch.bfloat16}
    for stored, live in zip(moments_in(run.checkpoint("final")), kept.moments, strict=True):
        assert torch.equal(stored.float(), live)

    with pytest.raises(StoppedByUser):
        train(tmp_path / "stopped", StopInTheMiddle(), epochs=2)
    last = torch.load(tmp_path / "stopped" / "dino_detector_last.pth", weights_only=True)
    assert torch.float32 in {moment.dtype for moment in moments_in(last)}


def test_files_of_the_lightweight_preset_on_a_small_vit_are_below_25_mb(tmp_path, train, train_split):
    """With 80 classes, moving average, weights and optimizer state."""
    content = json.loads(train_split.annotations.read_text())
    content["categories"] += [{"id": 100 + number, "name": f"thing {number}"} for number in range(78)]
    (tmp_path / "many.json").write_text(json.dumps(content))
    untrained(random_architecture("facebook/dinov2-small", {}).to_dict()).save_pretrained(tmp_path / "base")
    base = {"backbone_weights": "pretrained", "backbone_architecture": {}, "dino_model": str(tmp_path / "base")}
    run = train(
        tmp_path / "run",
        epochs=1,
        train_backbone="lora",
        train_annotations=tmp_path / "many.json",
        **base,
        **LIGHTWEIGHT_SIZES,
    )
    files = list(run.folder.glob("*.pth"))
    assert len(files) == 4
    assert all(10e6 < file.stat().st_size < 25e6 for file in files)
