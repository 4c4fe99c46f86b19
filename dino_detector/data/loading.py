"""Batches: samples put together, by workers that a run can be stopped and resumed with."""

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
from multiprocessing.queues import Queue
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from dino_detector.data.dataset import CachedSample, CocoDetection, Sample
from dino_detector.data.sampling import BatchSizes, EvaluationSampler, TrainingBatches, TrainingSampler
from dino_detector.errors import InputError
from dino_detector.structures.nested import tensors_in
from dino_detector.structures.targets import Targets


class CachedPart(NamedTuple):
    """The images of a batch that the trunk cache has, and those that it lacks.

    Attributes:
        hidden: ``[B - N, M, 1+R+h*w, D]`` half precision, of those that it has, in their order.
        having: their positions in the batch.
        lacking: positions of the N others, whose pixels the batch has.
        entry_keys: of these, under which the cache is to keep them; empty for one that it is not.
    """

    hidden: Tensor
    having: list[int]
    lacking: list[int]
    entry_keys: list[str]


class Batch(NamedTuple):
    """Images and ground truth of one step, as plain tensors.

    Attributes:
        pixel_values: ``[B, 3, H, W]`` float32, normalised with the backbone's mean and standard deviation; with a trunk
            cache only those of the images that it lacks.
        targets: boxes as fractions of the network's input, and labels.
        image_ids: ``B`` ids of the annotation file.
        original_sizes: ``[B, 2]`` int64, height and width of the images as they were read.
        skipped: one line for each image that could not be read and was replaced.
        cached: what the trunk cache has of the batch, and what it is to keep; None without a cache.
    """

    pixel_values: Tensor
    targets: Targets
    image_ids: list[int]
    original_sizes: Tensor
    skipped: list[str]
    cached: CachedPart | None = None

    @property
    def shown(self) -> list[int]:
        """Positions in the batch of the images that ``pixel_values`` shows."""
        return list(range(len(self.image_ids))) if self.cached is None else self.cached.lacking


class Collate:
    """Turns samples of one size into a batch.

    Args:
        mean: mean colour in 0..1, RGB.
        std: standard deviation of each colour, in 0..1.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = 255 * torch.tensor(mean).view(3, 1, 1)
        self.std = 255 * torch.tensor(std).view(3, 1, 1)

    def __call__(self, samples: list[Sample | CachedSample]) -> Batch:
        """Stack and normalise images of one size, and pad their boxes."""
        images = [sample.image for sample in samples if isinstance(sample, Sample)]
        pixels = torch.stack(images) if images else torch.empty(0, 3, 0, 0)  # [B, 3, H, W] uint8
        batch = Batch(
            pixel_values=pixels.float().sub_(self.mean).div_(self.std),
            targets=Targets.pad(
                [sample.boxes_cxcywh for sample in samples],
                [sample.labels for sample in samples],
            ),
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
    """Images as they were read, for a detector that cuts and resizes them itself.

    Attributes:
        images: uint8 RGB ``[3, H, W]`` each, of any sizes.
        image_ids: their ids in the annotation file.
        skipped: one line for each image that could not be read and was replaced.
    """

    images: list[Tensor]
    image_ids: list[int]
    skipped: list[str]


def collate_full_size(samples: list[Sample]) -> FullSizeBatch:
    """The images of samples in their own size."""
    batch = FullSizeBatch(
        images=[sample.image.as_subclass(Tensor) for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        skipped=[line for sample in samples for line in sample.skipped],
    )
    return ready_to_send(batch)


Sent = TypeVar("Sent", Batch, FullSizeBatch)


def ready_to_send(batch: Sent) -> Sent:
    """Move the tensors of a worker's batch to shared memory, from which the main process takes them.

    The queue would move them too, but in a thread whose errors nobody hears: training would wait for ever.

    Raises:
        InputError: there is no room for them.
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
    """A `DataLoader` that leaves the global generator alone, and keeps an `InputError` of a worker to its one line.

    On Linux workers are forked, whatever Python's default is: they share the tables of the data set with this process.
    """

    def __init__(self, dataset: CocoDetection, **settings: Any) -> None:
        # Without a generator of its own, each pass would take a number from the generator that dropout draws from.
        super().__init__(
            dataset,
            generator=torch.Generator(),
            persistent_workers=settings["num_workers"] > 0,
            multiprocessing_context="fork" if sys.platform == "linux" and settings["num_workers"] else None,
            worker_init_fn=partial(begin_work, most_pixels=Image.MAX_IMAGE_PIXELS),
            **settings,
        )

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from super().__iter__()
        except InputError as error:
            # torch puts the worker's traceback before the message
            raise InputError(str(error).strip().splitlines()[-1].split("InputError: ", 1)[-1]) from error


def begin_work(worker: int, *, most_pixels: int | None = Image.MAX_IMAGE_PIXELS) -> None:
    """Leave signals to the main process, whose last step still needs the workers, and its objects where they are.

    A terminal sends Ctrl-C to the workers too, and so do ``timeout`` and clusters with SIGTERM. A worker ends when its
    main process asks it to, ends or is gone. A garbage collection that looked at inherited objects would copy them.
    Workers that are not forked need to be told of Pillow's limit.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Image.MAX_IMAGE_PIXELS = most_pixels
    Queue._on_queue_feeder_error = staticmethod(_end_worker)
    gc.freeze()


@atexit.register
def _kill_workers() -> None:
    """Kill the workers of loaders that nobody closed; multiprocessing would wait for ever for SIGTERM to end them."""
    for child in active_children():
        if child.daemon:
            child.kill()


def _end_worker(error: Exception, batch: object) -> NoReturn:
    """End a worker whose queue can't send a batch; the main process would wait for the batch for ever."""
    os._exit(1)


class ResumableLoader(Loader):
    """A loader that continues after the last batch that it handed out, also in the middle of an epoch.

    Its state counts batches when the consumer takes them, not when a worker reads ahead. It follows the protocol of
    Lightning's stateful loaders; the epoch is set through the sampler's ``set_epoch``.

    Attributes:
        seconds_waited: how long the consumer has waited for batches, of all passes.
    """

    batch_sampler: TrainingBatches

    def __init__(self, dataset: CocoDetection, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self.seconds_waited = 0.0
        self._position = (0, 0)  # the epoch, and the batches of it that were handed out
        self._resuming = False

    def __iter__(self) -> Iterator[Batch]:
        sampler = self.batch_sampler.sampler
        resumes = self._resuming and sampler.epoch == self._position[0]
        first = self._position[1] if resumes else 0
        self._resuming = False
        self._position = (sampler.epoch, first)
        self.batch_sampler.first = first
        asked = time.monotonic()
        for handed_out, batch in enumerate(super().__iter__(), start=first + 1):
            self._position = (self._position[0], handed_out)
            self.seconds_waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of its batches that were handed out."""
        return {"epoch": self._position[0], "batches": self._position[1]}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after a state; after the last batch of an epoch comes the first of the next."""
        epoch, batches = state_dict["epoch"], state_dict["batches"]
        if batches >= len(self):
            epoch, batches = epoch + 1, 0
        self._position = (epoch, batches)
        self._resuming = True
        self.batch_sampler.sampler.set_epoch(epoch)


def build_training_loader(
    *,
    dataset: CocoDetection,
    factors: np.ndarray,
    sizes: BatchSizes,
    batch_size: int,
    num_workers: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    num_replicas: int,
    rank: int,
    pin_memory: bool,
) -> ResumableLoader:
    """Shuffled, augmented batches of this process; the last of an epoch may be smaller.

    Args:
        dataset: the training images.
        factors: ``[I]``, how often each image comes in an epoch on average.
        sizes: input sizes of the batches.
        batch_size: images in a batch, per process.
        num_workers: processes that read images; 0 reads in this one.
        mean: mean colour of the backbone, RGB in 0..1.
        std: standard deviation of the backbone's colours.
        seed: seed of the order.
        num_replicas: number of training processes.
        rank: this process.
        pin_memory: copy batches to memory from which a GPU reads faster.
    """
    sampler = TrainingSampler(factors, num_replicas=num_replicas, rank=rank, seed=seed)
    return ResumableLoader(
        dataset,
        batch_sampler=TrainingBatches(sampler, batch_size, sizes),
        num_workers=num_workers,
        collate_fn=Collate(mean=mean, std=std),
        pin_memory=pin_memory,
    )


def build_evaluation_loader(
    *,
    dataset: CocoDetection,
    batch_size: int,
    num_workers: int,
    mean: Sequence[float],
    std: Sequence[float],
    num_replicas: int,
    rank: int,
    pin_memory: bool,
) -> Loader:
    """Batches of this process's share of the images, each image once over all processes; arguments as in training."""
    return Loader(
        dataset,
        batch_size=batch_size,
        sampler=EvaluationSampler(dataset, num_replicas=num_replicas, rank=rank),
        num_workers=num_workers,
        collate_fn=Collate(mean=mean, std=std),
        pin_memory=pin_memory,
    )


def build_full_size_loader(*, dataset: CocoDetection, num_workers: int, num_replicas: int, rank: int) -> Loader:
    """This process's share of the images as they are, one at a time since they may be large; arguments as in training.

    The samples must be in their own size, as `FullSizeImages` shows them.
    """
    return Loader(
        dataset,
        batch_size=1,
        sampler=EvaluationSampler(dataset, num_replicas=num_replicas, rank=rank),
        num_workers=num_workers,
        collate_fn=collate_full_size,
    )
