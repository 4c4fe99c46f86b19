"""Memory of a run: the rehearsal of its largest step, the current use, the peaks, and a table by purpose."""

from __future__ import annotations

import gc
import logging
import math
import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor

from dino_detector.config import Config, ImageSize
from dino_detector.errors import SharedInputError
from dino_detector.plain_text import counted
from dino_detector.structures.nested import tensors_in
from dino_detector.structures.targets import Targets
from dino_detector.training.logging.loggers import log_text, log_values
from dino_detector.training.optimization import MovingAverage

log = logging.getLogger(__name__)

GIB = 2**30
PEAKS = {"peak_memory_bytes": ("process_peak", "this process"), "peak_gpu_memory_bytes": ("gpu_peak", "the GPU")}
"""stage and owner of each peak"""


class Step(NamedTuple):
    """Size of a training step; ``boxes`` is the largest number of boxes in an image."""

    batch_size: int
    image_size: ImageSize
    boxes: int

    def __str__(self) -> str:
        height, width = self.image_size
        return f"{counted(self.batch_size, 'image')} of {height}x{width} pixels with up to {self.boxes} boxes each"


class Rehearsal(Callback):
    """Run the forward and backward pass of the largest step on synthetic images when training begins.

    The largest step has the largest batch, image and number of boxes. If fewer boxes give more denoising queries, a
    second step has that number of boxes. Placeholders hold the memory of the optimizer state. Weights and gradients do
    not change; neither do the random numbers of training, because the module seeds them for every batch. If the step
    does not fit, smaller steps find the settings for the error message.

    ``activations`` are the bytes that the largest step needs beside weights, gradients and optimizer state: the peak on
    a GPU, and elsewhere the tensors that the forward pass saves for the backward pass.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.largest_step: Step | None = None
        self.activations = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the largest step; raise `SharedInputError` with settings that fit if it does not fit."""
        config, data = self.config, trainer.datamodule
        augmentation, patch = config.augmentation, pl_module.detector.backbone.patch_size
        if trainer.current_epoch >= augmentation.no_augment_from(config.training.epochs):
            augmentation = replace(augmentation, multi_scale=0.0, mosaic_probability=0.0, copy_paste_probability=0.0)

        def enlarged(step: Step) -> Step:  # with the largest image that ``multi_scale`` makes
            return step._replace(image_size=augmentation.input_sizes(step.image_size, patch)[-1])

        sources = 4 if augmentation.mosaic_probability else 2 if augmentation.copy_paste_probability else 1
        boxes = int(np.diff(data.run_data.train.annotations.training.starts).max())
        boxes *= sources if augmentation.augmentation else 1  # an image has objects of several
        images = math.ceil(data.images_per_epoch / trainer.world_size)
        chosen = Step(min(config.training.batch_size, images), config.data.image_size, boxes)
        self.largest_step = tried = enlarged(chosen)
        if self._fits(tried, trainer, pl_module):
            return
        for smaller in smaller_steps(chosen, patch):
            tried = enlarged(smaller)
            if self._fits(tried, trainer, pl_module):
                less = ", or try a smaller --multi_scale" if augmentation.multi_scale else ""
                raise SharedInputError(
                    f"out of memory: a step of {self.largest_step} does not fit; {flags_of(smaller, config)} fits{less}"
                )
        raise SharedInputError(f"out of memory: not even {tried} fits beside the model; choose a smaller --dino_model")

    def _fits(self, step: Step, trainer: Trainer, pl_module: LightningModule) -> bool:
        counts, denoising = {step.boxes}, pl_module.detector.decoder.denoising
        if denoising is not None:
            counts.update(sorted(range(1, step.boxes + 1), key=denoising.num_queries)[-1:])
        fits = True
        try:
            self.activations = max(take(step._replace(boxes=count), trainer, pl_module) for count in counts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        pl_module.zero_grad(set_to_none=True)
        gc.collect()  # outside the handler, whose traceback holds the tensors of the failed pass
        if pl_module.device.type == "cuda":
            torch.cuda.empty_cache()
        return trainer.strategy.reduce_boolean_decision(fits, all=True)


def take(step: Step, trainer: Trainer, pl_module: Any) -> int:
    """Run forward and backward pass of a step on synthetic images; return the bytes of `Rehearsal.activations`."""
    device, detector, criterion = pl_module.device, pl_module.detector, pl_module.criterion
    (optimizer,) = trainer.optimizers
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer_state = [torch.zeros_like(each) for each in parameters if each not in optimizer.state for _ in range(2)]
    pixel_values = torch.zeros(step.batch_size, 3, *step.image_size, device=device)
    targets = Targets(
        boxes_cxcywh=torch.full((step.batch_size, step.boxes, 4), 0.5, device=device),
        labels=torch.zeros(step.batch_size, step.boxes, dtype=torch.int64, device=device),
        valid=torch.ones(step.batch_size, step.boxes, dtype=torch.bool, device=device),
    )
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) + sum(parameter.nbytes for parameter in parameters)
    with nullcontext() if on_gpu else saved_tensors(except_for=detector.parameters()) as saved:
        with trainer.precision_plugin.train_step_context():
            output = detector(pixel_values, targets)
            # no mean over processes: a process that fails here would leave the others waiting
            losses = criterion(output, targets, average=lambda value: value)
        losses.total.backward()
    del optimizer_state
    return torch.cuda.max_memory_allocated(device) - before if on_gpu else sum(saved.values())


@contextmanager
def saved_tensors(*, except_for: Iterable[Tensor]) -> Iterator[dict[int, int]]:
    """Collect the bytes of all storages that a forward pass saves for the backward pass, by their address."""
    known = {tensor.untyped_storage().data_ptr() for tensor in except_for}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor.detach()  # the tensor itself would keep its own graph alive

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the GPU or the machine is out of memory; oneDNN then fails to create a primitive."""
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or is_oom_error(error)
        or "could not create a primitive" in str(error)
    )


def smaller_steps(step: Step, patch: int) -> Iterator[Step]:
    """Yield smaller steps: halve the batch down to one image, then shrink the sides by quarters to at least 112."""
    while step.batch_size > 1:
        step = step._replace(batch_size=step.batch_size // 2)
        yield step
    while min(step.image_size) * 3 // 4 >= 112:
        sides = (max(1, side * 3 // 4 // patch) * patch for side in step.image_size)
        step = step._replace(image_size=ImageSize(*sides))
        yield step


def flags_of(step: Step, config: Config) -> str:
    """Return the flags of a smaller step with at least as many images per optimizer step."""
    training = config.training
    accumulated = math.ceil(training.batch_size * training.accumulate_batches / step.batch_size)
    flags = f"--batch_size {step.batch_size}"
    if accumulated > training.accumulate_batches:
        flags += f" --accumulate_batches {accumulated}"
    if step.image_size != config.data.image_size:
        flags += f" --image_size {step.image_size}"
    return flags


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
    """Log a table of memory by purpose after the first step, and the peaks after every epoch."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self._logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the child processes that exist before the data workers start."""
        self._others = multiprocessing.active_children()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log the table after the first optimizer step, when the optimizer state exists."""
        if self._logged or not trainer.optimizers[0].state or not trainer.is_global_zero:
            return
        self._logged = True
        rows = self._stages(trainer, pl_module)
        table = "\n".join(
            f"  {name:40}" + (f"{size / GIB:8.2f} GiB" if size >= GIB else f"{size / 2**20:8.1f} MiB")
            for name, size in rows.values()
        )
        log.info("memory of a step of %s:\n%s", self.rehearsal.largest_step, table)
        log_text(trainer.loggers, "memory", table)
        values = {f"memory_by_stage/{stage}": size / GIB for stage, (_, size) in rows.items()}
        log_values(trainer.loggers, values, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the peaks, including the evaluation of the epoch."""
        if trainer.is_global_zero:
            peaks = peak_memory(pl_module.device).items()
            listed = ", ".join(f"{size / GIB:.2f} GiB of {PEAKS[name][1]}" for name, size in peaks)
            log.info("peak memory after epoch %d: %s", trainer.current_epoch + 1, listed)

    def _stages(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, tuple[str, int]]:
        """Return a description and the bytes of each stage."""
        parameters = list(pl_module.parameters())
        trained = _bytes(parameter for parameter in parameters if parameter.requires_grad)
        frozen = _bytes(parameter for parameter in parameters if not parameter.requires_grad)
        averages = [callback.averages for callback in trainer.callbacks if isinstance(callback, MovingAverage)]
        workers = [child for child in multiprocessing.active_children() if child not in self._others]
        rows = {
            "model": ("model, frozen", frozen + _bytes(pl_module.buffers())),
            "model_trained": ("model, trained", trained),
            "gradients": ("gradients", trained),
            "optimizer_state": ("optimizer state", _bytes(tensors_in(trainer.optimizers[0].state))),
            "moving_average": ("moving average of the weights", sum(map(_bytes, averages))),
            "activations": ("activations at their peak", self.rehearsal.activations),
            "data_workers": (f"data workers ({len(workers)})", sum(map(_memory_of, workers))),
        }
        peaks = {PEAKS[name]: size for name, size in peak_memory(pl_module.device).items()}
        return rows | {stage: (f"all of {owner} at its peak so far", size) for (stage, owner), size in peaks.items()}


def _memory_of(worker: BaseProcess) -> int:
    """Return the memory of a data worker in bytes, with its share of shared memory; 0 if it has just ended."""
    try:
        memory = psutil.Process(worker.pid).memory_full_info()
    except psutil.Error:
        return 0
    return memory.pss if sys.platform == "linux" else memory.rss


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
