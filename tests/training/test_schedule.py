"""The learning rate schedule against exact values and against the schedule of transformers."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import AdamW
from transformers import get_wsd_schedule

from dino_detector.config import TrainingConfig
from dino_detector.training.optimization import build_schedule

FEW_WEIGHTS = {
    **{"train_backbone": "none", "decoder_layers": 1, "num_queries": 4},
    **{"val_images": None, "val_annotations": None},
}


def rates(total_steps: int, *, peak: float = 1.0, **settings) -> list[float]:
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = build_schedule(optimizer, TrainingConfig(**settings), total_steps=total_steps)
    seen = []
    for _ in range(total_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_rate_rises_to_its_peak_and_falls_along_a_cosine():
    seen = rates(50, peak=2.0, schedule="cosine", warmup_fraction=0.2)
    assert seen[:10] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    assert seen[10] == pytest.approx(2.0)
    assert seen[20] == pytest.approx(2 * (0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2))  # a quarter of the way: cos 45°
    assert seen[30] == pytest.approx(2 * 0.505)  # half way, between 1 and 0.01
    assert seen[40] == pytest.approx(2 * (0.01 + 0.99 * (1 - math.sqrt(0.5)) / 2))
    assert 0.02 < seen[49] < 0.03  # one step before a hundredth of the peak
    assert seen[10:] == sorted(seen[10:], reverse=True)


def test_flat_cosine_stays_at_its_peak_until_half_of_the_steps_are_left():
    seen = rates(80, schedule="flat_cosine", warmup_fraction=0.1)
    assert seen[:8] == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1])
    assert seen[8:41] == [1.0] * 33
    assert seen[50] == pytest.approx(0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2)
    assert seen[60] == pytest.approx(0.505)
    assert seen[70] == pytest.approx(0.01 + 0.99 * (1 - math.sqrt(0.5)) / 2)


def test_wsd_falls_by_one_minus_the_square_root_in_the_last_fifth():
    seen = rates(500, schedule="wsd", warmup_fraction=0.1)
    assert seen[24] == pytest.approx(0.5)
    assert seen[49:401] == [1.0] * 352
    assert seen[401] == pytest.approx(0.01 + 0.99 * 0.9)  # a hundredth of the way: 1 - 0.1
    assert seen[409] == pytest.approx(0.01 + 0.99 * 0.7)
    assert seen[425] == pytest.approx(0.505)  # a quarter of the way, half of the fall
    assert seen[481] == pytest.approx(0.01 + 0.99 * 0.1)


def test_cooldown_is_the_share_that_is_asked_for():
    """The cool-down has 36 steps; the square numbers 1, 9 and 25 have exact roots."""
    seen = rates(100, schedule="wsd", warmup_fraction=0.0, cooldown_fraction=0.36)
    assert seen[:65] == [1.0] * 65
    assert [seen[65], seen[73], seen[89]] == pytest.approx([0.01 + 0.99 * left for left in (5 / 6, 3 / 6, 1 / 6)])


@pytest.mark.parametrize(
    ("schedule", "decay_type"), [("cosine", "cosine"), ("flat_cosine", "cosine"), ("wsd", "1-sqrt")]
)
@pytest.mark.parametrize("total_steps", [10, 37, 301])
@pytest.mark.parametrize(("warmup", "cooldown"), [(0.05, 0.5), (0.2, 0.2), (0.3, 0.7), (0.0, 1.0)])
def test_after_warmup_it_is_the_schedule_of_transformers(schedule, decay_type, total_steps, warmup, cooldown):
    fraction = {} if schedule == "cosine" else {"cooldown_fraction": cooldown}
    seen = rates(total_steps, schedule=schedule, warmup_fraction=warmup, **fraction)
    rising = max(1, round(total_steps * warmup))
    falling = total_steps - rising if schedule == "cosine" else round(total_steps * cooldown)
    falling = min(falling, total_steps - rising)
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_wsd_schedule(
        optimizer,
        num_warmup_steps=rising,
        num_decay_steps=falling,
        num_training_steps=total_steps,
        decay_type=decay_type,
        min_lr_ratio=0.01,
    )
    (factor,) = reference.lr_lambdas
    assert seen[rising:] == pytest.approx([factor(step) for step in range(rising, total_steps)])


@pytest.mark.parametrize("schedule", ["cosine", "flat_cosine", "wsd"])
def test_first_step_is_never_of_rate_zero_and_few_steps_are_enough(schedule):
    assert rates(1, schedule=schedule, warmup_fraction=0.0, peak=2.0) == [2.0]
    for total_steps in range(1, 12):
        seen = rates(total_steps, schedule=schedule, warmup_fraction=0.0)
        assert min(seen) >= 0.01
        assert max(seen) == seen[0] == 1.0


def test_the_flat_part_of_a_longer_run_is_that_of_a_shorter_one():
    """A run can therefore resume from its flat part with more epochs, like a run that was planned longer."""
    short = rates(100, schedule="wsd", warmup_fraction=0.1)
    long = rates(200, schedule="wsd", warmup_fraction=0.1)
    assert short[20:81] == long[20:81] == [1.0] * 61
    assert short[90] < 1.0 == long[90]


@pytest.fixture
def train(train):
    """Train a few weights, without evaluation."""
    return partial(train, **FEW_WEIGHTS)


class Rates(Callback):
    """Record the decoder's learning rate at each optimizer step."""

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
        schedule="cosine",
        warmup_fraction=0.34,
        learning_rate=1e-3,
    )
    warmup = round(steps * 0.34)
    angles = [math.pi * step / (steps - warmup) for step in range(steps - warmup)]
    wanted = [(step + 1) / warmup for step in range(warmup)] + [0.01 + 0.99 * (1 + math.cos(a)) / 2 for a in angles]
    assert seen.seen == pytest.approx([1e-3 * factor for factor in wanted])


def test_a_run_that_is_resumed_in_its_flat_part_for_longer_cools_down_at_its_new_end(tmp_path, train):
    """With four steps an epoch, the rate falls in the last 2 of 4 epochs and in the last 3 of 6."""
    first, rest = Rates(), Rates()
    changes = {"schedule": "wsd", "cooldown_fraction": 0.5, "warmup_fraction": 0.0, "learning_rate": 1e-3}
    train(tmp_path, first, epochs=4, **changes)
    train(tmp_path, rest, epochs=6, **changes, checkpoint=tmp_path / "dino_detector_epoch_2.pth")
    falls = [[0.01 + 0.99 * (1 - math.sqrt(step / steps)) for step in range(steps)] for steps in (8, 12)]
    assert first.seen == pytest.approx([1e-3 * factor for factor in [1.0] * 8 + falls[0]])
    assert rest.seen == pytest.approx([1e-3 * factor for factor in [1.0] * 4 + falls[1]])


def test_a_run_that_is_resumed_for_much_longer_does_not_warm_up_again(tmp_path, train):
    """The warm-up is half an epoch of 2, and two epochs of 8; the run resumes after one."""
    rest = Rates()
    changes = {"schedule": "wsd", "cooldown_fraction": 0.25, "warmup_fraction": 0.25, "learning_rate": 1e-3}
    train(tmp_path, epochs=2, **changes)
    train(tmp_path, rest, epochs=8, **changes, checkpoint=tmp_path / "dino_detector_epoch_1.pth")
    assert rest.seen[:20] == pytest.approx([1e-3] * 20)
    assert len(rest.seen) == 28
    assert rest.seen[-1] < 1e-4


def test_a_run_that_is_resumed_for_longer_twice_does_not_warm_up_again(tmp_path, train):
    """The warm-up is one epoch of 2, and four of 8; the third run resumes after three."""
    second, third = Rates(), Rates()
    changes = {"schedule": "wsd", "cooldown_fraction": 0.2, "warmup_fraction": 0.5, "learning_rate": 1e-3}
    train(tmp_path, epochs=2, **changes)
    train(tmp_path, second, epochs=3, **changes, checkpoint=tmp_path / "dino_detector_last.pth")
    train(tmp_path, third, epochs=8, **changes, checkpoint=tmp_path / "dino_detector_last.pth")
    assert third.seen[:14] == pytest.approx([1e-3] * 14)


def test_the_first_step_after_a_resume_has_the_rate_of_the_new_schedule(tmp_path, train):
    """The last step of the first run had a hundredth of the peak rate."""
    rest = Rates()
    changes = {"schedule": "wsd", "cooldown_fraction": 0.2, "warmup_fraction": 0.0, "learning_rate": 1e-3}
    train(tmp_path, epochs=2, **changes)
    train(tmp_path, rest, epochs=4, **changes, checkpoint=tmp_path / "dino_detector_last.pth")
    assert rest.seen[0] == pytest.approx(1e-3)
