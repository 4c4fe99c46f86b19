"""Exponential moving average of the trained weights."""

from __future__ import annotations

import copy

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(WeightAveraging):
    """Lightning's weight averaging for a mostly frozen model.

    Validation uses the average, and the ``state_dict`` of a checkpoint holds it. The average shares the frozen
    parameters with the model, so a giant backbone is in memory once.

    After n steps the decay is ``(1 + n) / (warmup + n)``, up to ``decay``: the ramp of TensorFlow's
    ExponentialMovingAverage. The mean age of the averaged weights is then n / warmup steps, a fixed share of a run of
    any length, and the first weights soon leave the average. The other common ramp,
    ``decay * (1 - exp(-n / warmup))``, needs a warm-up for each length of run: it averages over less than two steps
    until n = warmup.

    Args:
        decay: share of the old average that a step keeps, in 0..1.
        warmup: number of steps after which the decay is about one half; 0 and 1 turn the warm-up off.
    """

    def __init__(self, decay: float, *, warmup: int) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self.warmup = warmup

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the trained parameters and share the frozen ones."""
        if stage != "fit":
            return
        frozen = {id(parameter): parameter for parameter in pl_module.parameters() if not parameter.requires_grad}
        self._average_model = AveragedModel(nn.Identity(), use_buffers=False, multi_avg_fn=self._update)
        self._average_model.module = copy.deepcopy(pl_module, memo=frozen)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the model's device; Lightning moves the model after `setup`."""
        self._average_model.to(pl_module.device)
        self._average_model.n_averaged = (
            self._average_model.n_averaged.cpu()
        )  # each step reads it without a device sync

    @property
    def averages(self) -> list[Tensor]:
        """Averaged weights, without the weights that the model shares."""
        return [parameter for parameter in self._average_model.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def _update(self, averages: list[Tensor], currents: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(self._average_model.n_averaged)  # num_averaged is a copy on the device
        decay = min(self.decay, (1 + count) / (self.warmup + count))
        pairs = zip(averages, currents, strict=True)
        trained = [(average, current) for average, current in pairs if average.data_ptr() != current.data_ptr()]
        torch._foreach_lerp_([average for average, _ in trained], [current for _, current in trained], 1 - decay)
