"""Data loaders: batches from worker processes, resumable in the middle of an epoch."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from dino_detector.data.dataset import CachedSample, CocoDetection, Sample
from dino_detector.data.sampling import BatchSizes, TrainingBatches, TrainingSampler, evaluation_share
from dino_detector.errors import InputError
from dino_detector.structures.nested import tensors_in
from dino_detector.structures.targets import Targets

RGB = Sequence[float]
"""mean or standard deviation of red, green and blue in 0..1"""
_workers: WeakSet[BaseProcess] = WeakSet()


class CachedPart(NamedTuple):
    """The trunk's cached outputs for a batch, and the images without one.

    Attributes:
        hidden: ``[B - N, M, 1+R+h*w, D]`` half precision, the cached outputs.
        having: positions of the cached images in the batch.
        lacking: positions of the N other images, whose pixels are in the batch.
        entry_keys: cache keys of the N other images; empty to store nothing.
    """

    hidden: Tensor
    having: list[int]
    lacking: list[int]
    entry_keys: list[str]


class Batch(NamedTuple):
    """Images and ground truth of one step, as plain tensors.

    Attributes:
        pixel_values: ``[B, 3, H, W]`` float32, normalised with the backbone's mean and standard deviation; with a trunk
            cache only the images without an entry.
        targets: boxes as fractions of the network's input, and labels.
        image_ids: ``B`` ids of the annotation file.
        original_sizes: ``[B, 2]`` int64, height and width of the original images.
        skipped: one line for each unreadable image that was replaced.
        cached: cached outputs of the trunk; None without a cache.
    """

    pixel_values: Tensor
    targets: Targets
    image_ids: list[int]
    original_sizes: Tensor
    skipped: list[str]
    cached: CachedPart | None = None

    @property
    def shown(self) -> list[int]:
        """Positions in the batch of the images in ``pixel_values``."""
        return list(range(len(self.image_ids))) if self.cached is None else self.cached.lacking


class Collate:
    """Collates samples of one size into a batch."""

    def __init__(self, *, mean: RGB, std: RGB) -> None:
        self.mean = 255 * torch.tensor(mean).view(3, 1, 1)
        self.std = 255 * torch.tensor(std).view(3, 1, 1)

    def __call__(self, samples: list[Sample | CachedSample]) -> Batch:
        """Stack and normalise images of one size, and pad their boxes."""
        images = [sample.image for sample in samples if isinstance(sample, Sample)]
        pixels = torch.stack(images) if images else torch.empty(0, 3, 0, 0)  # [B, 3, H, W] uint8
        batch = Batch(
            pixel_values=pixels.float().sub_(self.mean).div_(self.std),
            targets=Targets.pad([one.boxes_cxcywh for one in samples], [one.labels for one in samples]),
            image_ids=[sample.image_id for sample in samples],
            original_sizes=torch.tensor([sample.original_size for sample in samples]),
            skipped=[line for sample in samples for line in sample.skipped],
            cached=_cached_part(samples),
        )
        return ready_to_send(batch)


def _cached_part(samples: list[Sample | CachedSample]) -> CachedPart | None:
    having = [position for position, sample in enumerate(samples) if isinstance(sample, CachedSample)]
    lacking = [position for position, sample in enumerate(samples) if isinstance(sample, Sample)]
    entry_keys = [samples[position].entry_key for position in lacking]
    if not having and not any(entry_keys):
        return None
    hidden = torch.stack([samples[position].hidden for position in having]) if having else torch.empty(0)
    return CachedPart(hidden, having, lacking, entry_keys)


class FullSizeBatch(NamedTuple):
    """Images uint8 RGB ``[3, H, W]`` in their original sizes, for a detector that tiles and resizes them itself.

    `Batch` describes the other attributes.
    """

    images: list[Tensor]
    image_ids: list[int]
    skipped: list[str]


def collate_full_size(samples: list[Sample]) -> FullSizeBatch:
    """Collate samples of different sizes."""
    batch = FullSizeBatch(
        images=[sample.image for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        skipped=[line for sample in samples for line in sample.skipped],
    )
    return ready_to_send(batch)


Sent = TypeVar("Sent", Batch, FullSizeBatch)


def ready_to_send(batch: Sent) -> Sent:
    """Move the tensors of a worker's batch to shared memory; raise `InputError` if the shared memory is too small.

    The queue to the main process would move them too, but in a thread: an error there would be lost, and training would
    wait for ever.
    """
    if get_worker_info() is not None:
        try:
            for tensor in tensors_in(batch):
                tensor.share_memory_()
        except RuntimeError as error:
            raise InputError(
                f"a data worker can't send a batch, the shared memory is too small ({' '.join(str(error).split())}); "
                "give --num_workers 0, or more shared memory, as by docker run --shm-size 8g"
            ) from error
    return batch


class Loader(DataLoader):
    """A `DataLoader` that leaves the global generator alone, and raises a worker's `InputError` as one line.

    On Linux workers are always forked, so they share the tables of the data set with this process.
    """

    def __init__(self, dataset: CocoDetection, **settings: Any) -> None:
        # Without its own generator, each pass would draw from the global generator, which dropout uses.
        super().__init__(
            dataset,
            generator=torch.Generator(),
            persistent_workers=settings["num_workers"] > 0,
            multiprocessing_context="fork" if sys.platform == "linux" and settings["num_workers"] else None,
            worker_init_fn=partial(begin_work, most_pixels=Image.MAX_IMAGE_PIXELS),
            **settings,
        )

    def __iter__(self) -> Iterator[Batch]:
        before = active_children()
        batches = super().__iter__()
        _workers.update(child for child in active_children() if child not in before)
        try:
            yield from batches
        except InputError as error:
            # torch puts the worker's traceback before the message
            raise InputError(str(error).strip().splitlines()[-1].split("InputError: ", 1)[-1]) from error


def begin_work(worker: int, *, most_pixels: int | None) -> None:
    """Prepare a worker process: ignore signals, freeze inherited objects, set Pillow's limit of pixels.

    A terminal sends Ctrl-C to the workers too, and ``timeout`` and clusters send SIGTERM, but the last step of the main
    process still needs the workers. A worker ends when its main process asks it to, or has ended. A garbage
    collection would copy inherited objects. Workers that are not forked do not inherit Pillow's limit. A worker whose
    queue can't send a batch ends, because the main process would wait for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Image.MAX_IMAGE_PIXELS = most_pixels
    Queue._on_queue_feeder_error = staticmethod(lambda error, batch: os._exit(1))
    gc.freeze()


@atexit.register
def _kill_workers() -> None:
    """Kill the workers of open loaders; they ignore SIGTERM, so multiprocessing would wait for ever."""
    for worker in _workers.intersection(active_children()):
        worker.kill()


class ResumableLoader(Loader):
    """A loader that can resume after the last delivered batch, also in the middle of an epoch.

    Its state counts delivered batches, not batches that workers read ahead. It implements Lightning's protocol of
    stateful loaders; the sampler's ``set_epoch`` sets the epoch.

    Attributes:
        seconds_waited: time that the consumer has waited for batches, over all passes.
    """

    batch_sampler: TrainingBatches

    def __init__(self, dataset: CocoDetection, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self.seconds_waited = 0.0
        self._state = {"epoch": 0, "batches": 0}

    def __iter__(self) -> Iterator[Batch]:
        self._state = {"epoch": self.batch_sampler.sampler.epoch, "batches": self.batch_sampler.first}
        asked = time.monotonic()
        for batch in super().__iter__():
            self._state["batches"] += 1
            self.seconds_waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its delivered batches."""
        return dict(self._state)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume after a state; the first batch of the next epoch follows the last of an epoch."""
        epoch, batches = state_dict["epoch"], state_dict["batches"]
        if batches >= len(self):
            epoch, batches = epoch + 1, 0
        self._state = {"epoch": epoch, "batches": batches}
        self.batch_sampler.first = batches
        self.batch_sampler.sampler.set_epoch(epoch)


def build_training_loader(
    *,
    dataset: CocoDetection,
    factors: np.ndarray,
    sizes: BatchSizes,
    batch_size: int,
    seed: int,
    mean: RGB,
    std: RGB,
    num_replicas: int,
    rank: int,
    **settings: Any,
) -> ResumableLoader:
    """Return a loader of shuffled, augmented batches; the last batch of an epoch may be smaller.

    ``factors`` ``[I]`` are the mean number of appearances of each image in an epoch, ``batch_size`` is the number of
    images per process, and ``settings`` are ``num_workers`` and ``pin_memory`` of `DataLoader`.
    """
    sampler = TrainingSampler(factors, num_replicas=num_replicas, rank=rank, seed=seed)
    batches = TrainingBatches(sampler, batch_size, sizes)
    return ResumableLoader(dataset, batch_sampler=batches, collate_fn=Collate(mean=mean, std=std), **settings)


def build_evaluation_loader(
    *, dataset: CocoDetection, mean: RGB, std: RGB, num_replicas: int, rank: int, **settings: Any
) -> Loader:
    """Return a loader of this process's share of the images, each image once; see `build_training_loader`."""
    share = evaluation_share(len(dataset), num_replicas=num_replicas, rank=rank)
    return Loader(dataset, sampler=share, collate_fn=Collate(mean=mean, std=std), **settings)


def build_full_size_loader(*, dataset: CocoDetection, num_workers: int, num_replicas: int, rank: int) -> Loader:
    """Return a loader of this process's share of full-size images, one image at a time."""
    share = evaluation_share(len(dataset), num_replicas=num_replicas, rank=rank)
    return Loader(dataset, sampler=share, batch_size=1, num_workers=num_workers, collate_fn=collate_full_size)
