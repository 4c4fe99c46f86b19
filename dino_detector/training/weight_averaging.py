"""Exponential moving average of the weights that train."""

from __future__ import annotations

import copy

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(WeightAveraging):
    """Lightning's weight averaging, for a model that is mostly frozen.

    The average is what validation sees and what a checkpoint's ``state_dict`` holds. Frozen parameters are shared with
    the model instead of copied, so a giant backbone is in memory once.

    After n steps the decay is ``(1 + n) / (warmup + n)``, until that is more than ``decay``: the ramp of TensorFlow's
    ExponentialMovingAverage. Weights in the average are then n / warmup steps old in the mean, a share of the run
    whatever its length, and soon none of the first is left. The other ramp in use, ``decay * (1 - exp(-n / warmup))``,
    would have to be set for the length of a run: up to n = warmup it averages over less than two steps.

    Args:
        decay: share of the old average that a step keeps, in 0..1.
        warmup: steps after which the decay is about one half; up to 1, there is no warm-up.
    """

    def __init__(self, decay: float, *, warmup: int) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self.warmup = warmup

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy what trains, share what is frozen."""
        if stage != "fit":
            return
        frozen = {id(parameter): parameter for parameter in pl_module.parameters() if not parameter.requires_grad}
        self._average_model = AveragedModel(nn.Identity(), use_buffers=False, multi_avg_fn=self._update)
        self._average_model.module = copy.deepcopy(pl_module, memo=frozen)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the model to its device; callbacks are set up before it moves there."""
        self._average_model.to(pl_module.device)
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()  # read at each step: nothing waits for it

    @property
    def averages(self) -> list[Tensor]:
        """The averaged weights, without those that are shared with the model."""
        return [parameter for parameter in self._average_model.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def _update(self, averages: list[Tensor], currents: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(self._average_model.n_averaged)  # the argument is a copy on the device
        decay = min(self.decay, (1 + count) / (self.warmup + count))
        pairs = zip(averages, currents, strict=True)
        trained = [(average, current) for average, current in pairs if average.data_ptr() != current.data_ptr()]
        torch._foreach_lerp_([average for average, _ in trained], [current for _, current in trained], 1 - decay)
