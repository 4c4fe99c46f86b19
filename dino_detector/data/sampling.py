"""Which images a process reads in which order, and at which size; across epochs and interrupted runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from itertools import islice

import numpy as np
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

from dino_detector.config import ImageSize
from dino_detector.data.coco.annotations import BoxTable
from dino_detector.data.dataset import SampleKey


def repeat_factors(boxes: BoxTable, *, threshold: float) -> np.ndarray:
    """How often images come in an epoch, on average, so that those of rare classes come more often.

    From "LVIS" (https://arxiv.org/abs/1908.03195, appendix B): a class c that a share f_c of the images has gets
    r_c = max(1, sqrt(threshold / f_c)), and an image the largest r_c of its classes.

    Args:
        boxes: of I images.
        threshold: share of the images below which a class is rare.

    Returns:
        ``[I]`` float64, at least 1.
    """
    images = len(boxes.starts) - 1
    image_of = np.repeat(np.arange(images), np.diff(boxes.starts))
    classes = int(boxes.labels.max(initial=0)) + 1
    present = np.sort(image_of * classes + boxes.labels)
    image_of, labels = np.divmod(present[np.diff(present, prepend=-1) > 0], classes)  # each class of an image once
    shares = np.bincount(labels) / images
    factors = np.ones(images)
    np.maximum.at(factors, image_of, np.sqrt(threshold / shares[labels]))
    return factors


def epoch_length(factors: np.ndarray) -> int:
    """Images of an epoch, those counted again that come again; the same for every epoch."""
    return int(np.floor(factors).sum()) + _extras(factors)


def _extras(factors: np.ndarray) -> int:
    return int(np.round(np.modf(factors)[0].sum(), 6))


def draw_repeats(factors: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """How often each image comes in an epoch: its factor ``[I]``, rounded up or down at random, ``[I]`` int64.

    An image with the factor 1.3 comes a second time in three epochs of ten. Images are rounded together, by systematic
    sampling (Madow 1949, https://doi.org/10.1214/aoms/1177729988), so every epoch has `epoch_length` images; the
    expectation is a factor's own but for the part of an image that the length of an epoch is short of their sum.
    """
    extra, least = np.modf(factors)
    wanted = _extras(factors)
    if wanted == 0:
        return least.astype(np.int64)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(factors))
    marks = np.cumsum(extra[order])
    marks *= wanted / marks[-1]
    marks[-1] = wanted  # exactly
    passed = np.floor(marks + rng.random()).astype(np.int64)
    repeats = least.astype(np.int64)
    repeats[order] += np.diff(passed, prepend=0)
    return repeats


class TrainingSampler(DistributedSampler):
    """Shuffled keys of the epoch last set; what comes in which order depends on the seed and the epoch alone.

    Processes get equally many keys, so that none waits for a gradient; a few may come twice for it.

    Args:
        factors: ``[I]``, how often each image comes in an epoch on average, at least 1.
        num_replicas: number of processes.
        rank: this process, ``0 <= rank < num_replicas``.
        seed: of the order and of the rounding of the factors.
    """

    def __init__(self, factors: np.ndarray, *, num_replicas: int, rank: int, seed: int) -> None:
        super().__init__(range(epoch_length(factors)), num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.factors = factors

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch
        repeats = draw_repeats(self.factors, seed=self.seed, epoch=epoch)  # [I]
        images = np.repeat(np.arange(len(repeats)), repeats)
        first = np.cumsum(repeats) - repeats  # [I], places of the first of each image
        for place in super().__iter__():
            image = int(images[place])
            yield SampleKey(epoch, image, place - int(first[image]))


class EvaluationSampler(Sampler[int]):
    """Every index once, in turn over the processes; shares may differ by one.

    Where there are fewer indices than processes, some come twice, since the trainer takes no process without a batch;
    who gathers drops one by its image id.

    Args:
        dataset: what is evaluated.
        num_replicas: number of processes.
        rank: this process, ``0 <= rank < num_replicas``.
    """

    def __init__(self, dataset: Sized, *, num_replicas: int, rank: int) -> None:
        assert 0 <= rank < num_replicas
        self.indices = range(rank, len(dataset), num_replicas) or [rank % len(dataset)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class BatchSizes:
    """The input size of each training batch, the same for every process.

    Args:
        sizes: of which one is drawn by the seed, the epoch and the number of the batch alone.
        plain: the size in plain epochs.
        plain_from: the first of these.
        seed: of what is drawn.
    """

    def __init__(self, sizes: Sequence[ImageSize], *, plain: ImageSize, plain_from: int, seed: int) -> None:
        self.sizes = sizes
        self.plain = plain
        self.plain_from = plain_from
        self.seed = seed

    def of(self, epoch: int, batch: int) -> ImageSize:
        """The size of a batch, counted from 0 in its epoch."""
        if epoch >= self.plain_from:
            return self.plain
        return self.sizes[np.random.default_rng([self.seed, epoch, batch]).integers(len(self.sizes))]


class TrainingBatches(BatchSampler):
    """Batches of keys with one input size; those of a pass can begin later, but its length stays that of an epoch.

    Attributes:
        first: the batch of the epoch that the next pass begins with.
    """

    sampler: TrainingSampler

    def __init__(self, sampler: TrainingSampler, batch_size: int, sizes: BatchSizes) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.sizes = sizes
        self.first = 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, first = self.sampler.epoch, self.first
        for number, keys in enumerate(islice(super().__iter__(), first, None), start=first):
            image_size = self.sizes.of(epoch, number)
            yield [key._replace(image_size=image_size) for key in keys]
