"""The machine that a run uses, and the Lightning trainer of the run."""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import read_checkpoint, write_checkpoint
from dino_detector.models.device import resolve_device, resolve_precision
from dino_detector.training.progress import EvaluationLines, LiveLine, shows_live_line

LIGHTNING_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class Machine(NamedTuple):
    """Device, with an index if the user chose one GPU; precision ``32``, ``bf16`` or ``16``; number of processes."""

    device: torch.device
    precision: str
    processes: int


def resolve_machine(config: Config) -> Machine:
    """Resolve device, precision and number of processes, and set the address that the processes connect to.

    Raises:
        InputError: the device does not exist, or does not support the precision or the processes; or the address is
            in use.
    """
    device = resolve_device(config.training.device)
    precision = resolve_precision(config.training.precision, device)
    settings = config.distributed
    if not settings.distributed:
        return Machine(device, precision, processes=1)
    if device.type not in ("cpu", "cuda") or device.index is not None:
        raise InputError(f"--distributed needs --device cpu, cuda or auto, not {config.training.device!r}")
    gpus = torch.cuda.device_count()
    processes = settings.world_size or (gpus if device.type == "cuda" else 2)
    if device.type == "cuda" and processes > gpus:
        raise InputError(f"--world_size {processes} needs {processes} GPUs, but this machine has {gpus}; lower it")
    if settings.dist_url != "env://" and rank_zero_only.rank == 0:
        host, port = settings.dist_url.removeprefix("tcp://").split(":")
        try:
            socket.create_server((host, int(port))).close()
        except (OSError, OverflowError) as error:
            text = f"--dist_url {settings.dist_url}: no process can listen there ({error})"
            raise InputError(f"{text}; give another port, or leave it out") from error
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    return Machine(device, precision, processes)


class VerifiedCheckpointIO(TorchCheckpointIO):
    """Read and write checkpoints with `models.checkpoint`.

    Lightning's own writer needs room in the system's temporary folder, and its own reader verifies nothing.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; raise `InputError` if it is damaged."""
        return read_checkpoint(Path(path))[1]


def build_trainer(
    config: Config, machine: Machine, *, loggers: Sequence[Logger] = (), callbacks: Sequence[Callback] = ()
) -> Trainer:
    """Build the trainer of a run.

    Several processes use Lightning's DDP, with NCCL on GPUs and gloo on CPUs. The main process starts the others with
    its own command line.
    """
    training, device, is_live = config.training, machine.device, shows_live_line()
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
        logger=list(loggers),
        log_every_n_steps=config.logging.log_frequency,
        callbacks=[*callbacks, LiveLine() if is_live else EvaluationLines()],
        plugins=[VerifiedCheckpointIO()],
        enable_progress_bar=is_live,
        enable_checkpointing=bool(callbacks),  # only training has callbacks, and `RunFiles` writes checkpoints
        enable_model_summary=False,
    )


def _destroy_process_group() -> None:
    """Destroy the process group at exit; Lightning does so for NCCL alone, and gloo's threads would abort the exit."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
