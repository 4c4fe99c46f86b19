from __future__ import annotations

import math

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from dino_detector.config import ImageSize
from dino_detector.data.coco.annotations import BoxTable
from dino_detector.data.dataset import SampleKey
from dino_detector.data.sampling import (
    BatchSizes,
    TrainingBatches,
    TrainingSampler,
    draw_repeats,
    epoch_length,
    evaluation_share,
    repeat_factors,
)

FACTORS = np.array([1.0, 1.3, 1.0, 2.0, 1.75, 3.2, 1.0, 1.3])
"""The whole parts of the factors add up to 11 and the fractions to 1.55, so an epoch has 12 images."""


def table(*labels: list[int]) -> BoxTable:
    """Return the table of images with these labels."""
    counts = [len(each) for each in labels]
    flat = np.array([label for each in labels for label in each], np.int64)
    return BoxTable(np.zeros((len(flat), 4), np.float32), flat, np.cumsum([0, *counts]))


def sampler(factors, *, epoch=0, num_replicas=1, rank=0, seed=3) -> TrainingSampler:
    made = TrainingSampler(factors, num_replicas=num_replicas, rank=rank, seed=seed)
    made.set_epoch(epoch)
    return made


def test_factors_by_hand():
    """Class 0 is in all ten images, class 1 in two, class 2 in one; a class counts once for each image."""
    boxes = table([0], [0, 0], [0, 1], [0, 1, 1], [0, 2], [0], [0], [0], [0], [0])
    factors = repeat_factors(boxes, threshold=0.4)
    assert factors == pytest.approx([1, 1, math.sqrt(2), math.sqrt(2), 2, 1, 1, 1, 1, 1])
    assert repeat_factors(boxes, threshold=0.0).tolist() == [1] * 10
    assert repeat_factors(boxes, threshold=0.05).tolist() == [1] * 10, "none is rarer"


def test_factors_of_images_without_boxes_are_one():
    assert repeat_factors(table([], [4], [], []), threshold=1.0) == pytest.approx([1, 2, 1, 1])


def test_every_epoch_has_as_many_images_and_each_its_factor_rounded():
    assert epoch_length(FACTORS) == 12
    seen = np.array([draw_repeats(FACTORS, seed=3, epoch=epoch) for epoch in range(2000)])
    assert (seen.sum(axis=1) == 12).all()
    assert (seen >= np.floor(FACTORS)).all()
    assert (seen <= np.ceil(FACTORS)).all()
    # the fractions of 1.55 share one place
    expected = np.floor(FACTORS) + (FACTORS - np.floor(FACTORS)) / 1.55
    assert seen.mean(axis=0) == pytest.approx(expected, abs=0.05)


def test_factors_are_the_expectation_where_their_sum_is_whole():
    factors = np.array([1.5, 1.25, 1.25, 2.9, 1.1])
    seen = np.array([draw_repeats(factors, seed=1, epoch=epoch) for epoch in range(4000)])
    assert (seen.sum(axis=1) == 8).all()
    assert seen.mean(axis=0) == pytest.approx(factors, abs=0.04)


def test_rounding_depends_on_seed_and_epoch_alone():
    first = draw_repeats(FACTORS, seed=3, epoch=5)
    assert np.array_equal(draw_repeats(FACTORS, seed=3, epoch=5), first)
    others = [draw_repeats(FACTORS, seed=seed, epoch=epoch) for seed, epoch in ((3, 6), (3, 7), (4, 5), (5, 5))]
    assert any(not np.array_equal(other, first) for other in others)


def test_without_factors_the_order_is_that_of_the_library_sampler():
    for rank in range(3):
        ours = sampler(np.ones(10), num_replicas=3, rank=rank)
        reference = DistributedSampler(range(10), num_replicas=3, rank=rank, shuffle=True, seed=3)
        for epoch in (0, 5):
            ours.set_epoch(epoch)
            reference.set_epoch(epoch)
            assert list(ours) == [SampleKey(epoch, index) for index in reference]
            assert all(type(key) is SampleKey for key in ours)


@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
def test_processes_share_an_epoch_with_its_repeats(replicas):
    for epoch in range(5):
        shares = [list(sampler(FACTORS, epoch=epoch, num_replicas=replicas, rank=rank)) for rank in range(replicas)]
        assert (
            {len(share) for share in shares}
            == {math.ceil(12 / replicas)}
            == {len(sampler(FACTORS, num_replicas=replicas))}
        )
        keys = {key for share in shares for key in share}
        repeats = draw_repeats(FACTORS, seed=3, epoch=epoch)
        assert keys == {
            SampleKey(epoch, index, repeat) for index, times in enumerate(repeats) for repeat in range(times)
        }


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_no_process_is_without_an_image_where_there_are_fewer_images(replicas):
    shares = [list(evaluation_share(2, num_replicas=replicas, rank=rank)) for rank in range(replicas)]
    assert all(len(share) == 1 for share in shares)
    assert {index for share in shares for index in share} == {0, 1}


@pytest.mark.parametrize("count", [5, 7, 12])
@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_evaluation_covers_each_index_once_over_the_processes(count, replicas):
    shares = [evaluation_share(count, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    assert sorted(index for share in shares for index in share) == list(range(count))
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]


SIZES = [ImageSize(14 * count, 14 * count) for count in range(3, 8)]


def batches(*, epoch: int, rank: int = 0, first: int = 0) -> list[list[SampleKey]]:
    made = TrainingBatches(
        sampler(np.ones(80), epoch=epoch, num_replicas=2, rank=rank),
        4,
        BatchSizes(SIZES, plain=SIZES[2], no_augment_from=3, seed=3),
    )
    made.first = first
    assert len(made) == 10
    return list(made)


def sizes(keys: list[list[SampleKey]]) -> list[ImageSize]:
    assert all(len({key.image_size for key in batch}) == 1 for batch in keys), "a batch has one size"
    return [batch[0].image_size for batch in keys]


def test_sizes_are_those_of_the_list_and_differ_between_epochs_and_batches():
    drawn = [sizes(batches(epoch=epoch)) for epoch in range(3)]
    assert {size for epoch in drawn for size in epoch} == set(SIZES)
    assert drawn[0] != drawn[1] != drawn[2]


def test_sizes_are_drawn_evenly():
    chosen = BatchSizes(SIZES, plain=SIZES[2], no_augment_from=99, seed=3)
    counts = np.bincount([SIZES.index(chosen.of(epoch, batch)) for epoch in range(20) for batch in range(100)])
    assert counts == pytest.approx([400] * 5, abs=80)


def test_processes_have_the_same_sizes():
    assert sizes(batches(epoch=1, rank=0)) == sizes(batches(epoch=1, rank=1))


def test_a_pass_that_begins_later_has_the_rest_of_the_batches():
    for first in (0, 1, 9, 10):
        assert batches(epoch=2, first=first) == batches(epoch=2)[first:]


def test_plain_epochs_have_the_size_of_evaluation():
    assert set(sizes(batches(epoch=3))) == set(sizes(batches(epoch=7))) == {SIZES[2]}
