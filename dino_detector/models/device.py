"""The device that a setting names."""

from __future__ import annotations

import torch

from dino_detector.errors import InputError


def resolve_device(device: str) -> torch.device:
    """Return the device that a setting names; ``auto`` is the accelerator where there is one.

    Raises:
        InputError: for an unknown name, or a device that this machine lacks.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        return accelerator or torch.device("cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is not auto, cpu, cuda, cuda:N or mps") from error
    if wanted.type != "cpu" and (accelerator is None or accelerator.type != wanted.type):
        raise InputError(f"device {device!r} is not available here; use --device cpu or --device auto")
    if (wanted.index or 0) >= max(1, torch.accelerator.device_count()):
        raise InputError(f"device {device!r} is not available here: there are {torch.accelerator.device_count()}")
    return wanted
