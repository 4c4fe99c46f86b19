"""Histograms of the trained weights and their gradients."""

from __future__ import annotations

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

BINS = 64


class HistogramLog(Callback):
    """Log every trained weight and its unclipped gradient at the last step of every evaluated epoch, to TensorBoard."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log ``parameters/NAME`` and ``gradients/NAME``."""
        due = (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        if not (due and trainer.is_last_batch and trainer.is_global_zero):
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, parameter in pl_module.detector.named_parameters():
                    if parameter.requires_grad and parameter.grad is not None:
                        step = trainer.global_step + 1  # the step that begins
                        add_histogram(logger.experiment, f"parameters/{name}", parameter.detach(), step)
                        add_histogram(logger.experiment, f"gradients/{name}", parameter.grad, step)


def add_histogram(writer: SummaryWriter, tag: str, values: Tensor, step: int) -> None:
    """Log a histogram with 64 equal bins, counted on the device of the tensor; skip a tensor that is not finite."""
    values = values.float().flatten()
    sums = torch.stack([*values.aminmax(), values.sum(), values.square().sum()])
    if not sums.isfinite().all():
        return
    low, high, total, squares = sums.tolist()
    margin = max(abs(low), abs(high), 1.0) * 1e-6 if low == high else 0.0
    counts = torch.histc(values, bins=BINS, min=low - margin, max=high + margin)
    width = (high - low + 2 * margin) / BINS
    writer.add_histogram_raw(
        tag,
        min=low,
        max=high,
        num=values.numel(),
        sum=total,
        sum_squares=squares,
        bucket_limits=[low - margin + width * edge for edge in range(1, BINS + 1)],
        bucket_counts=counts.tolist(),
        global_step=step,
    )
