"""Samplers: the order and input size of images, for each process, epoch and resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import BatchSampler, DistributedSampler

from dino_detector.config import ImageSize
from dino_detector.data.coco.annotations import BoxTable
from dino_detector.data.dataset import SampleKey


def repeat_factors(boxes: BoxTable, *, threshold: float) -> np.ndarray:
    """Return repeat factors: the mean number of appearances of each image in an epoch, more for rare classes.

    From "LVIS" (https://arxiv.org/abs/1908.03195, appendix B): a class c in a share f_c of the images gets
    r_c = max(1, sqrt(threshold / f_c)), and each of the I images gets the largest r_c of its classes, ``[I]`` float64.
    """
    images = len(boxes.starts) - 1
    image_of = np.repeat(np.arange(images), np.diff(boxes.starts))
    classes = int(boxes.labels.max(initial=0)) + 1
    image_of, labels = np.divmod(np.unique(image_of * classes + boxes.labels), classes)  # each class of an image once
    shares = np.bincount(labels) / images
    factors = np.ones(images)
    np.maximum.at(factors, image_of, np.sqrt(threshold / shares[labels]))
    return factors


def epoch_length(factors: np.ndarray) -> int:
    """Return the number of samples in every epoch: the sum of the factors, rounded down."""
    return int(np.round(factors.sum(), 6))  # without the rounding errors of the sum


def draw_repeats(factors: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Round the factors ``[I]`` up or down at random to the appearances of each image in an epoch, ``[I]`` int64.

    An image with the factor 1.3 appears twice in three of ten epochs. Factors are rounded together by systematic
    sampling (Madow 1949, https://doi.org/10.1214/aoms/1177729988), so every epoch has `epoch_length` samples. The mean
    of the appearances is the factor, scaled so that the factors sum to that length.
    """
    fractions, least = np.modf(factors)
    repeats = least.astype(np.int64)
    extra = epoch_length(factors) - int(repeats.sum())
    if extra == 0:
        return repeats
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(factors))
    marks = np.cumsum(fractions[order])
    marks *= extra / marks[-1]
    marks[-1] = extra  # exactly
    repeats[order] += np.diff(np.floor(marks + rng.random()).astype(np.int64), prepend=0)
    return repeats


class TrainingSampler(DistributedSampler):
    """Yields the shuffled keys of the current epoch; the order depends only on the seed and the epoch.

    All processes get the same number of keys, so no process waits for a gradient; a few keys repeat if necessary.
    ``factors`` ``[I]`` are the mean number of appearances of each image in an epoch, at least 1.
    """

    def __init__(self, factors: np.ndarray, *, num_replicas: int, rank: int, seed: int) -> None:
        super().__init__(range(epoch_length(factors)), num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.factors = factors

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch
        repeats = draw_repeats(self.factors, seed=self.seed, epoch=epoch)  # [I]
        images = np.repeat(np.arange(len(repeats)), repeats)
        first = np.cumsum(repeats) - repeats  # [I] position of the first appearance of each image
        for place in super().__iter__():
            image = int(images[place])
            yield SampleKey(epoch, image, place - int(first[image]))


def evaluation_share(images: int, *, num_replicas: int, rank: int) -> Sequence[int]:
    """Return the indices of a process; all processes together have every index once, and shares differ by at most one.

    If there are fewer images than processes, some indices repeat, because the trainer needs a batch in every process;
    the results are gathered by image id, so a repeated image counts once.
    """
    return range(rank, images, num_replicas) or [rank % images]


class BatchSizes(NamedTuple):
    """The input size of each training batch, the same for every process: ``plain`` from epoch ``no_augment_from`` on.

    In earlier epochs it is drawn from ``sizes``, and depends only on the seed, the epoch and the number of the batch.
    """

    sizes: Sequence[ImageSize]
    plain: ImageSize
    no_augment_from: int
    seed: int

    def of(self, epoch: int, batch: int) -> ImageSize:
        """Return the size of a batch, numbered from 0 in its epoch."""
        if epoch >= self.no_augment_from:
            return self.plain
        return self.sizes[np.random.default_rng([self.seed, epoch, batch]).integers(len(self.sizes))]


class TrainingBatches(BatchSampler):
    """Yields batches of keys with one input size; ``len`` is the number of batches in an epoch.

    Attributes:
        first: number of the batch that the next pass starts with; the passes after it start with 0 again.
    """

    sampler: TrainingSampler

    def __init__(self, sampler: TrainingSampler, batch_size: int, sizes: BatchSizes) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.sizes = sizes
        self.first = 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first, self.first = self.first, 0
        epoch = self.sampler.epoch
        for number, keys in enumerate(islice(super().__iter__(), first, None), start=first):
            image_size = self.sizes.of(epoch, number)
            yield [key._replace(image_size=image_size) for key in keys]
