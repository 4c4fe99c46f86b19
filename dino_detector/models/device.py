"""The device and the numeric precision that settings name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from dino_detector.errors import InputError

PRECISIONS = ("auto", "32", "bf16", "16")
LOW_PRECISION = {"bf16": torch.bfloat16, "16": torch.float16}
"""dtype of autocast by precision; 32 has none"""


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
    if wanted.type == "cpu" and not wanted.index:
        return torch.device("cpu")  # cpu:0 is the same, but the trainer refuses an index
    if wanted.type != "cpu" and (accelerator is None or accelerator.type != wanted.type):
        raise InputError(f"device {device!r} is not available here; use --device cpu or --device auto")
    if (wanted.index or 0) >= (count := torch.accelerator.device_count()):
        raise InputError(f"device {device!r} is not available: this machine has {count}; use --device auto")
    return wanted


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return 32, bf16 or 16 for a precision of `TrainingConfig.precision`.

    ``auto`` is bf16 where the device has instructions for it, and 32 elsewhere.
    A CPU without bf16 instructions also accepts bf16, but is many times slower than in 32.

    Raises:
        InputError: the precision does not exist, or the device does not support it.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "16" and device.type == "cpu":
        raise InputError("precision 16 is not for a CPU; use --precision 32 or bf16")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch answers for the current device
            fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast_bf16 = device.type == "cpu" and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return "bf16" if fast_bf16 else "32"


def autocast_to(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context of autocast to ``bf16`` or ``16``, with weights in float32; ``32`` changes nothing."""
    dtype = LOW_PRECISION.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
