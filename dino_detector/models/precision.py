"""The number format that a detector computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from dino_detector.errors import InputError

PRECISIONS = ("auto", "32", "bf16", "16")
LOWER = {"bf16": torch.bfloat16, "16": torch.float16}
"""what autocast computes in, by precision"""


def resolve_precision(precision: str, device: torch.device) -> str:
    """32, bf16 or 16: the precision of `TrainingConfig.precision`, of which ``auto`` is what the device is fast in.

    A CPU without instructions for bf16 computes in it too, but many times slower than in 32.

    Raises:
        InputError: there is no such precision, or the device does not compute in it.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "16" and device.type == "cpu":
        raise InputError("precision 16 is not for a CPU; use --precision 32 or bf16")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        with torch.cuda.device(device):  # it is the current one that torch tells of
            fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast_bf16 = device.type == "cpu" and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return "bf16" if fast_bf16 else "32"


def autocast_to(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """A context in which a device computes in the precision ``bf16`` or ``16``, while weights stay in float32.

    ``32`` changes nothing, also where the caller has chosen another.
    """
    lower = LOWER.get(precision)
    return nullcontext() if lower is None else torch.autocast(device.type, lower)
