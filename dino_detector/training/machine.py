"""Device, precision and number of processes of a run, resolved once."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.models.device import resolve_device
from dino_detector.models.precision import resolve_precision

CPU_PROCESSES = 2
"""Number of processes of ``--distributed`` on a CPU without ``--world_size``."""


class Machine(NamedTuple):
    """Device, precision and number of processes.

    Attributes:
        device: has an index if the user chose one GPU.
        precision: ``32``, ``bf16`` or ``16``.
        processes: number of processes.
    """

    device: torch.device
    precision: str
    processes: int


def resolve_machine(config: Config) -> Machine:
    """Resolve device, precision and number of processes, and set the address that the processes connect to.

    Raises:
        InputError: The device does not exist, or does not support the precision or the processes; or the address is
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
    processes = settings.world_size or (gpus if device.type == "cuda" else CPU_PROCESSES)
    if device.type == "cuda" and processes > gpus:
        raise InputError(f"--world_size {processes} needs {processes} GPUs, but this machine has {gpus}; lower it")
    if settings.dist_url != "env://" and rank_zero_only.rank == 0:
        host, port = settings.dist_url.removeprefix("tcp://").split(":")
        _require_free(host, int(port))
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    return Machine(device, precision, processes)


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--dist_url tcp://{host}:{port}: no process can listen there ({error}); give another port, or leave it out"
        ) from error
