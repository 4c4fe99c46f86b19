"""Memory of a run: the current use, the peaks, and a table by purpose."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from typing import Any

import psutil
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from dino_detector.structures.nested import tensors_in
from dino_detector.training.logging.loggers import log_text, log_values
from dino_detector.training.rehearsal import Rehearsal
from dino_detector.training.weight_averaging import MovingAverage

log = logging.getLogger(__name__)

GIB = 2**30


def memory_now(device: torch.device) -> dict[str, float]:
    """Return memory in GiB by tag: resident memory of this process, and the GPU's current and peak allocation."""
    values = {"memory/process": psutil.Process().memory_info().rss / GIB}
    if device.type == "cuda":
        values["memory/gpu_allocated"] = torch.cuda.memory_allocated(device) / GIB
        values["memory/gpu_peak"] = torch.cuda.max_memory_allocated(device) / GIB
    return values


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peaks so far in bytes: resident memory of this process, and the GPU's allocation."""
    peaks = {}
    if sys.platform != "win32":
        import resource

        in_bytes = 1 if sys.platform == "darwin" else 1024
        peaks["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * in_bytes
    if device.type == "cuda":
        peaks["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return peaks


class MemoryMonitor(Callback):
    """Log a table of memory by purpose after the first step, and the peaks after every epoch.

    Args:
        rehearsal: callback that measures the activations of the largest step.
    """

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self._logged = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log the table after the first optimizer step, when the optimizer state exists."""
        if self._logged or not trainer.optimizers[0].state or not trainer.is_global_zero:
            return
        self._logged = True
        rows = self._stages(trainer, pl_module)
        table = "\n".join(f"  {name:40}{_text(size):>12}" for name, size in rows.values())
        log.info("memory of a step of %s:\n%s", self.rehearsal.largest_step, table)
        log_text(trainer.loggers, "memory", table)
        values = {f"memory_by_stage/{stage}": size / GIB for stage, (_, size) in rows.items()}
        log_values(trainer.loggers, values, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the peaks, including the evaluation of the epoch."""
        if trainer.is_global_zero:
            peaks = peak_memory(pl_module.device)
            places = {"peak_memory_bytes": "of this process", "peak_gpu_memory_bytes": "on the GPU"}
            listed = ", ".join(f"{value / GIB:.2f} GiB {places[name]}" for name, value in peaks.items())
            log.info("peak memory after epoch %d: %s", trainer.current_epoch + 1, listed)

    def _stages(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, tuple[str, int]]:
        """Return a description and the bytes of each stage."""
        parameters = list(pl_module.parameters())
        trained = _bytes(parameter for parameter in parameters if parameter.requires_grad)
        frozen = _bytes(parameter for parameter in parameters if not parameter.requires_grad)
        averages = [callback.averages for callback in trainer.callbacks if isinstance(callback, MovingAverage)]
        workers = [child for child in multiprocessing.active_children() if child.daemon]
        peaks = peak_memory(pl_module.device)
        rows = {
            "model": ("model, frozen", frozen + _bytes(pl_module.buffers())),
            "model_trained": ("model, trained", trained),
            "gradients": ("gradients", trained),
            "optimizer_state": ("optimizer state", _bytes(tensors_in(dict(trainer.optimizers[0].state)))),
            "moving_average": ("moving average of the weights", sum(map(_bytes, averages))),
            "activations": ("activations at their peak", self.rehearsal.activations),
            "data_workers": (f"data workers ({len(workers)})", sum(map(_memory_of, workers))),
        }
        if "peak_memory_bytes" in peaks:
            rows["process_peak"] = ("all of this process at its peak so far", peaks["peak_memory_bytes"])
        if "peak_gpu_memory_bytes" in peaks:
            rows["gpu_peak"] = ("all of the GPU at its peak so far", peaks["peak_gpu_memory_bytes"])
        return rows


def _memory_of(worker: BaseProcess) -> int:
    """Return the memory of a data worker in bytes, with its share of shared memory; 0 if it has just ended."""
    try:
        memory = psutil.Process(worker.pid).memory_full_info()
    except psutil.Error:
        return 0
    return memory.pss if sys.platform == "linux" else memory.rss


def _text(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
