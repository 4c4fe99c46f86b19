"""The Lightning trainer of a run: device, precision, processes."""

from __future__ import annotations

import atexit
import sys
from typing import Literal

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from dino_detector.config import Config
from dino_detector.training.checkpoint_io import VerifiedCheckpointIO
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.machine import Machine
from dino_detector.training.progress import EpochBar

LIGHTNING_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


def build_trainer(
    config: Config,
    machine: Machine,
    *,
    loggers: list[Logger] | None = None,
    callbacks: list[Callback] | None = None,
) -> Trainer:
    """Build the trainer of a run.

    Several processes are Lightning's DDP: NCCL on GPUs, gloo on CPUs; this process starts the others by running its
    own command line again.
    """
    training = config.training
    device = machine.device
    shows_progress = sys.stderr.isatty()
    callbacks = [*(callbacks or []), *([EpochBar()] if shows_progress else [])]
    if machine.processes > 1:
        atexit.register(_leave_the_others)
    return Trainer(
        accelerator=device.type,
        devices=machine.processes if device.index is None else [device.index],
        strategy="ddp" if machine.processes > 1 else "auto",
        precision=LIGHTNING_PRECISION[machine.precision],
        max_epochs=training.epochs,
        accumulate_grad_batches=training.accumulate_batches,
        gradient_clip_val=training.gradient_clip or None,
        check_val_every_n_epoch=training.val_frequency,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=loggers or False,
        log_every_n_steps=config.logging.log_frequency,
        callbacks=callbacks,
        plugins=[VerifiedCheckpointIO()],
        enable_progress_bar=shows_progress,
        enable_checkpointing=any(isinstance(callback, RunFiles) for callback in callbacks),
        enable_model_summary=False,
    )


def _leave_the_others() -> None:
    """End the threads of the process group, as Lightning does for NCCL alone; gloo's would abort the exit."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
