"""How much memory a run takes at its peak."""

from __future__ import annotations

import logging
import sys

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)


def peak_memory(device: torch.device) -> dict[str, int]:
    """Largest memory so far, in bytes: resident memory of this process, and what the GPU had allocated."""
    peaks = {}
    if sys.platform != "win32":
        import resource

        in_bytes = 1 if sys.platform == "darwin" else 1024
        peaks["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * in_bytes
    if device.type == "cuda":
        peaks["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return peaks


class MemoryMonitor(Callback):
    """Tells and logs the peak memory of the main process after every epoch, its evaluation included."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One line, and ``memory/peak_memory_bytes`` and ``memory/peak_gpu_memory_bytes`` in the log."""
        peaks = peak_memory(pl_module.device)
        for name, value in peaks.items():
            pl_module.log(f"memory/{name}", float(value), rank_zero_only=True)
        places = {"peak_memory_bytes": "of this process", "peak_gpu_memory_bytes": "on the GPU"}
        listed = ", ".join(f"{value / 2**30:.2f} GiB {places[name]}" for name, value in peaks.items())
        if trainer.is_global_zero:
            log.info("peak memory after epoch %d: %s", trainer.current_epoch + 1, listed)
