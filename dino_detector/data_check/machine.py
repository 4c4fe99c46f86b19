"""The machine that a training is planned for: device, memory, processor cores, free disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import psutil

GIB = 2**30


class PlannedMachine(NamedTuple):
    """Device ``cpu``, ``cuda`` or ``mps``; its memory in bytes; processor cores; free disk in bytes; fast bf16."""

    device: str
    memory: int
    cores: int
    disk: int
    bf16: bool

    def __str__(self) -> str:
        cores = f"{self.cores} processor core{'s' if self.cores != 1 else ''}"
        fast = ", fast bf16" if self.bf16 else ""
        return f"{self.device} with {self.memory / GIB:.1f} GiB of memory{fast}, {cores}"

    @property
    def has_gpu(self) -> bool:
        """Whether an accelerator computes."""
        return self.device != "cpu"

    @classmethod
    def here(cls, device: str = "auto") -> PlannedMachine:
        """Return this machine with the device that a setting names.

        The memory is the whole memory of a GPU, and elsewhere the memory that is free now.

        Raises:
            InputError: the device does not exist.
        """
        import torch

        from dino_detector.models.device import resolve_device, resolve_precision

        found = resolve_device(device)
        memory = psutil.virtual_memory().available
        if found.type == "cuda":
            memory = torch.cuda.get_device_properties(found).total_memory
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        bf16 = resolve_precision("auto", found) == "bf16"
        return cls(found.type, memory, cores, shutil.disk_usage(Path.cwd()).free, bf16)
