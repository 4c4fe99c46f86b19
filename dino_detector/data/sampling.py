"""Samplers: the order and input size of images, for each process, epoch and resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from itertools import islice

import numpy as np
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

from dino_detector.config import ImageSize
from dino_detector.data.coco.annotations import BoxTable
from dino_detector.data.dataset import SampleKey


def repeat_factors(boxes: BoxTable, *, threshold: float) -> np.ndarray:
    """Return repeat factors: the mean number of appearances of each image in an epoch, more for rare classes.

    From "LVIS" (https://arxiv.org/abs/1908.03195, appendix B): a class c in a share f_c of the images gets
    r_c = max(1, sqrt(threshold / f_c)), and an image gets the largest r_c of its classes.

    Args:
        boxes: boxes of I images.
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
    """Return the number of samples in an epoch, the same for every epoch."""
    return int(np.floor(factors).sum()) + _extras(factors)


def _extras(factors: np.ndarray) -> int:
    return int(np.round(np.modf(factors)[0].sum(), 6))


def draw_repeats(factors: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Round the factors ``[I]`` up or down at random to the appearances of each image in an epoch, ``[I]`` int64.

    An image with the factor 1.3 appears twice in three of ten epochs. Factors are rounded together by systematic
    sampling (Madow 1949, https://doi.org/10.1214/aoms/1177729988), so every epoch has `epoch_length` samples. The mean
    of the appearances is the factor, scaled so that the factors sum to that length.
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
    """Yields the shuffled keys of the current epoch; the order depends only on the seed and the epoch.

    All processes get the same number of keys, so no process waits for a gradient; a few keys may repeat for that.

    Args:
        factors: ``[I]`` mean number of appearances of each image in an epoch, at least 1.
        num_replicas: number of processes.
        rank: index of this process.
        seed: seed of the order and of the rounding of the factors.
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


class EvaluationSampler(Sampler[int]):
    """Yields every index once over all processes; the shares differ by at most one.

    If there are fewer indices than processes, some repeat, because the trainer needs a batch in every process; the
    repeats are dropped by image id when results are gathered.

    Args:
        dataset: the data set to evaluate on.
        num_replicas: number of processes.
        rank: index of this process.
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
        sizes: sizes to draw from; the draw depends only on the seed, the epoch and the number of the batch.
        plain: size in plain epochs.
        no_augment_from: first plain epoch.
        seed: seed of the draws.
    """

    def __init__(self, sizes: Sequence[ImageSize], *, plain: ImageSize, no_augment_from: int, seed: int) -> None:
        self.sizes = sizes
        self.plain = plain
        self.no_augment_from = no_augment_from
        self.seed = seed

    def of(self, epoch: int, batch: int) -> ImageSize:
        """Return the size of a batch, numbered from 0 in its epoch."""
        if epoch >= self.no_augment_from:
            return self.plain
        return self.sizes[np.random.default_rng([self.seed, epoch, batch]).integers(len(self.sizes))]


class TrainingBatches(BatchSampler):
    """Yields batches of keys with one input size; a pass can start later, but its length stays that of an epoch.

    Attributes:
        first: number of the first batch of the next pass.
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
