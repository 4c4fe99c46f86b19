"""The Lightning trainer of a run: device, precision, processes."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from typing import Literal

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.inference.detector import resolve_device
from dino_detector.models.precision import resolve_precision
from dino_detector.training.checkpoint_io import VerifiedCheckpointIO
from dino_detector.training.checkpoints import RunFiles
from dino_detector.training.progress import EpochBar

CPU_PROCESSES = 2
"""How many processes ``--distributed`` starts on a CPU that is not told a number."""

LIGHTNING_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


def resolve_processes(config: Config) -> Config:
    """The config with the number of processes of a distributed run, which may be left to the machine.

    Raises:
        InputError: the device can't train in the precision or serve so many processes, or where they are to meet is
            taken.
    """
    device = resolve_device(config.training.device)
    resolve_precision(config.training.precision, device)
    settings = config.distributed
    if not settings.distributed:
        return config
    if device.type not in ("cpu", "cuda") or device.index is not None:
        raise InputError(f"--distributed needs --device cpu, cuda or auto, not {config.training.device!r}")
    gpus = torch.cuda.device_count()
    world_size = settings.world_size or (gpus if device.type == "cuda" else CPU_PROCESSES)
    if device.type == "cuda" and world_size > gpus:
        raise InputError(f"--world_size {world_size} needs as many GPUs, but this machine has {gpus}; lower it")
    if settings.dist_url != "env://" and rank_zero_only.rank == 0:
        host, port = settings.dist_url.removeprefix("tcp://").split(":")
        _require_free(host, int(port))
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    return config.replace(world_size=world_size)


def build_trainer(
    config: Config, *, loggers: list[Logger] | None = None, callbacks: list[Callback] | None = None
) -> Trainer:
    """The trainer of a run whose processes have been resolved.

    Several processes are Lightning's DDP: NCCL on GPUs, gloo on CPUs; this process starts the others by running its
    own command line again.
    """
    training = config.training
    device = resolve_device(training.device)
    world_size = config.distributed.processes
    shows_progress = sys.stderr.isatty()
    callbacks = [*(callbacks or []), *([EpochBar()] if shows_progress else [])]
    if world_size > 1:
        atexit.register(_leave_the_others)
    return Trainer(
        accelerator=device.type,
        devices=world_size if device.index is None else [device.index],
        strategy="ddp" if world_size > 1 else "auto",
        precision=LIGHTNING_PRECISION[resolve_precision(training.precision, device)],
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


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--dist_url tcp://{host}:{port}: the processes can't meet there ({error}); give another port, or leave "
            "it out"
        ) from error
