"""The course of the learning rate: warm-up, flat part, cool-down."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dino_detector.config import TrainingConfig

FINAL_RATE = 0.01
"""Learning rate at the end of training, as a fraction of its peak."""

COOLDOWN_FRACTIONS = {"cosine": 1.0, "flat_cosine": 0.5, "wsd": 0.2}
"""Share of the steps in which the rate falls, where none is given; that of cosine is all that warm-up leaves."""


def build_schedule(
    optimizer: Optimizer, training: TrainingConfig, *, total_steps: int, warmup_of: int | None = None
) -> LambdaLR:
    """The schedule that a config asks for, to be stepped after each of the ``total_steps`` steps of the run.

    The rates of all groups rise linearly in the first steps, stay, and fall to a hundredth of their peaks:

    - ``cosine`` falls along half a cosine from the warm-up on (https://arxiv.org/abs/1608.03983);
    - ``flat_cosine`` does so in the last steps only (RTMDet, https://arxiv.org/abs/2212.07784);
    - ``wsd``, warm-up, stable, decay, falls there by 1 - sqrt (https://arxiv.org/abs/2405.18392).

    Args:
        optimizer: whose rates follow it.
        training: settings.
        total_steps: of the run.
        warmup_of: steps of which ``warmup_fraction`` is meant, where that is not all of them.
    """
    fraction = cooldown_share(training)
    warmup_steps = max(1, round((warmup_of or total_steps) * training.warmup_fraction))
    cooldown_steps = min(round(total_steps * fraction), total_steps - warmup_steps)
    falls = _one_minus_sqrt if training.schedule == "wsd" else _half_cosine

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        into_cooldown = step - (total_steps - cooldown_steps)
        progress = min(1.0, max(0, into_cooldown) / max(1, cooldown_steps))
        return FINAL_RATE + (1 - FINAL_RATE) * falls(progress)

    return LambdaLR(optimizer, factor)


def cooldown_share(training: TrainingConfig) -> float:
    """Share of the steps in which the rate falls; that of cosine also has what the warm-up takes."""
    return training.cooldown_fraction or COOLDOWN_FRACTIONS[training.schedule]


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _one_minus_sqrt(progress: float) -> float:
    return 1 - math.sqrt(progress)
