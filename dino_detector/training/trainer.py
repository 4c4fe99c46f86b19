"""The Lightning trainer of a run, with checkpoints in the package's own format."""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO

from dino_detector.config import Config
from dino_detector.models.checkpoint import read_checkpoint, write_checkpoint
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.machine import Machine
from dino_detector.training.progress import EpochBar

LIGHTNING_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


class VerifiedCheckpointIO(CheckpointIO):
    """Read and write checkpoints with `models.checkpoint`.

    Lightning's own writer needs room in the system's temporary folder, and its own reader verifies nothing.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; raise `InputError` if it is damaged."""
        return read_checkpoint(Path(path))[1]

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)


def build_trainer(
    config: Config,
    machine: Machine,
    *,
    loggers: list[Logger] | None = None,
    callbacks: list[Callback] | None = None,
) -> Trainer:
    """Build the trainer of a run.

    Several processes use Lightning's DDP, with NCCL on GPUs and gloo on CPUs. The main process starts the others with
    its own command line.
    """
    training = config.training
    device = machine.device
    shows_progress = sys.stderr.isatty()
    callbacks = [*(callbacks or []), *([EpochBar()] if shows_progress else [])]
    if machine.processes > 1:
        atexit.register(_destroy_process_group)
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


def _destroy_process_group() -> None:
    """Destroy the process group at exit; Lightning does so for NCCL alone, and gloo's threads would abort the exit."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
