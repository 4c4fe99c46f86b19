from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch

from dino_detector.config import AugmentationConfig, ImageSize
from dino_detector.data import loading
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, WholeImages
from dino_detector.data.loading import Collate, build_evaluation_loader, build_training_loader
from dino_detector.data.sampling import BatchSizes
from dino_detector.errors import InputError

COMMON = {"mean": [0.5, 0.25, 0.0], "std": [0.5, 0.25, 1.0], "pin_memory": False}


SIZES = [ImageSize(14, 14), ImageSize(28, 28), ImageSize(42, 42)]
EVERYTHING = AugmentationConfig(mosaic_probability=0.3, copy_paste_probability=0.5, crop_probability=1.0)


def training_loader(
    annotations, *, num_workers=0, seed=1, num_replicas=1, rank=0, batch_size=2, sizes=SIZES[1:2], factors=None
):
    """Return a loader whose epochs are plain (without augmentation) from the third on."""
    view = Augmentation(EVERYTHING, resize_mode="stretch", seed=1, no_augment_from=2)
    data = CocoDetection(CocoImages(annotations.path.parent, annotations), view=view, on_bad_image="skip")
    return build_training_loader(
        dataset=data,
        factors=np.ones(len(data)) if factors is None else factors,
        sizes=BatchSizes(sizes, plain=SIZES[1], no_augment_from=2, seed=seed),
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        num_replicas=num_replicas,
        rank=rank,
        **COMMON,
    )


def evaluation_loader(annotations, *, num_workers=0, num_replicas=1, rank=0):
    view = WholeImages(image_size=ImageSize(28, 42), resize_mode="stretch")
    data = CocoDetection(CocoImages(annotations.path.parent, annotations), view=view, on_bad_image="raise")
    replicas = {"num_replicas": num_replicas, "rank": rank}
    return build_evaluation_loader(dataset=data, batch_size=2, num_workers=num_workers, **replicas, **COMMON)


def epochs(loader, first: int, last: int):
    """Return image ids and pixels of every batch from epoch ``first`` up to, not including, ``last``."""
    batches = []
    for epoch in range(first, last):
        loader.batch_sampler.sampler.set_epoch(epoch)
        batches += [(batch.image_ids, batch.pixel_values) for batch in loader]
    return batches


def assert_equal(left, right):
    assert [ids for ids, _ in left] == [ids for ids, _ in right]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(left, right, strict=True))


def test_batch_is_normalised_and_boxes_are_fractions_of_the_input(folder):
    annotations = folder(3)
    data = evaluation_loader(annotations).dataset
    batch = Collate(mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])([data[0], data[1]])
    assert batch.pixel_values.dtype == torch.float32
    assert type(batch.pixel_values) is torch.Tensor
    assert type(batch.targets.boxes_cxcywh) is torch.Tensor
    image = torch.stack([data[0].image, data[1].image]).as_subclass(torch.Tensor).float() / 255
    expected = torch.stack([(image[:, 0] - 0.5) / 0.5, (image[:, 1] - 0.25) / 0.25, image[:, 2]], dim=1)
    torch.testing.assert_close(batch.pixel_values, expected)
    # x 8..40 of 64, y 12..36 of 48
    torch.testing.assert_close(batch.targets.boxes_cxcywh, torch.tensor([[[0.375, 0.5, 0.5, 0.5]]]).repeat(2, 1, 1))
    assert batch.image_ids == [100, 101]
    assert batch.original_sizes.tolist() == [[48, 64], [48, 64]]
    assert batch.original_sizes.dtype == torch.int64
    assert batch.skipped == []


def test_images_without_boxes_are_batched(folder):
    data = evaluation_loader(folder(2)).dataset
    full, empty = data[0], data[1]
    empty.boxes_xyxy, empty.labels = empty.boxes_xyxy[:0], empty.labels[:0]
    collate = Collate(mean=[0.5] * 3, std=[0.2] * 3)
    assert collate([empty, full]).targets.valid.tolist() == [[False], [True]]
    assert collate([empty, empty]).targets.boxes_cxcywh.shape == (2, 0, 4)


def test_evaluation_loaders_of_two_processes_see_every_image_once(folder):
    annotations = folder(5)
    loaders = [evaluation_loader(annotations, num_replicas=2, rank=rank) for rank in range(2)]
    assert sorted(i for loader in loaders for batch in loader for i in batch.image_ids) == list(range(100, 105))


def test_batches_are_the_same_whatever_the_number_of_workers(folder):
    annotations = folder(7)
    alone = epochs(training_loader(annotations), 0, 2)
    assert len(alone) == 8
    for num_workers in (1, 2):
        assert_equal(epochs(training_loader(annotations, num_workers=num_workers), 0, 2), alone)


def test_epochs_differ_in_order_and_augmentation(folder):
    loader = training_loader(folder(7), batch_size=7)
    (first_ids, first), (second_ids, second) = epochs(loader, 0, 2)
    assert first_ids != second_ids
    assert sorted(first_ids) == sorted(second_ids) == list(range(100, 107))
    for image_id in first_ids:
        assert not torch.equal(first[first_ids.index(image_id)], second[second_ids.index(image_id)])


def test_an_epoch_has_every_image_and_the_last_batch_is_not_dropped(folder):
    batches = epochs(training_loader(folder(7)), 0, 1)
    assert [len(ids) for ids, _ in batches] == [2, 2, 2, 1]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
@pytest.mark.parametrize("strong", [False, True], ids=["one-size", "sizes-and-repeats"])
def test_resumed_loader_gives_exactly_the_remaining_batches(folder, num_workers, stop, strong):
    """With repeats an epoch has 8 images; the loader is interrupted in the epoch before the plain epochs."""
    annotations = folder(7 if not strong else 6)
    settings = {"sizes": SIZES, "factors": np.array([1, 1, 1.5, 1, 2.25, 1.25])} if strong else {}
    whole = epochs(training_loader(annotations, **settings), 0, 3)
    loader = training_loader(annotations, num_workers=num_workers, **settings)
    epochs(loader, 0, 1)
    loader.batch_sampler.sampler.set_epoch(1)
    iterator = iter(loader)
    for _ in range(stop):
        next(iterator)
    state = loader.state_dict()

    resumed = training_loader(annotations, num_workers=num_workers, **settings)
    resumed.load_state_dict(state)
    assert resumed.state_dict() in (state, {"epoch": state["epoch"] + 1, "batches": 0})
    assert len(resumed) == 4
    first = resumed.batch_sampler.sampler.epoch
    rest = epochs(resumed, first, 3)
    # with no batch taken from epoch 1, the state is still the end of epoch 0
    assert_equal(rest, whole[4 + stop :])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_has_one_size_that_all_processes_share(folder, num_workers):
    annotations = folder(24)
    shapes = []
    for rank in range(2):
        loader = training_loader(annotations, num_workers=num_workers, num_replicas=2, rank=rank, sizes=SIZES)
        shapes.append([tuple(pixels.shape[-2:]) for _, pixels in epochs(loader, 0, 2)])
    assert shapes[0] == shapes[1]
    assert set(shapes[0]) == set(SIZES)
    assert shapes[0][:6] != shapes[0][6:], "sizes differ between epochs"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_plain_epochs_begin_in_workers_that_stay(folder, num_workers):
    """Plain epochs show whole images of the evaluation size; half are mirrored, and half have other colours."""
    annotations = folder(12)
    loader = training_loader(annotations, num_workers=num_workers, sizes=SIZES)
    whole = {ids[0]: pixels for ids, pixels in singles(evaluation_square(annotations))}
    as_they_are = []
    for epoch in range(4):
        same = [
            any(torch.equal(pixels, seen) for seen in (whole[ids[0]], whole[ids[0]].flip(-1)))
            for ids, pixels in singles(epochs(loader, epoch, epoch + 1))
            if pixels.shape == (3, 28, 28)
        ]
        as_they_are.append(sum(same))
        assert len(same) == 12 or epoch < 2
    assert as_they_are[:2] == [0, 0]
    assert min(as_they_are[2:]) >= 2


def singles(batches):
    return [([image_id], image) for ids, images in batches for image_id, image in zip(ids, images, strict=True)]


def evaluation_square(annotations):
    view = WholeImages(image_size=SIZES[1], resize_mode="stretch")
    data = CocoDetection(CocoImages(annotations.path.parent, annotations), view=view, on_bad_image="raise")
    loader = build_evaluation_loader(dataset=data, batch_size=3, num_workers=0, num_replicas=1, rank=0, **COMMON)
    return [(batch.image_ids, batch.pixel_values) for batch in loader]


def test_after_the_last_batch_of_an_epoch_comes_the_first_of_the_next(folder):
    annotations = folder(7)
    loader = training_loader(annotations)
    loader.load_state_dict({"epoch": 1, "batches": 4})
    assert_equal(
        [(batch.image_ids, batch.pixel_values) for batch in loader], epochs(training_loader(annotations), 2, 3)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_left_in_the_middle_does_not_spill_into_the_next(folder, num_workers):
    annotations = folder(7)
    loader = training_loader(annotations, num_workers=num_workers)
    next(iter(loader))
    assert_equal(epochs(loader, 1, 3), epochs(training_loader(annotations), 1, 3))


def test_state_does_not_count_what_workers_read_ahead(folder):
    loader = training_loader(folder(12), num_workers=2)
    iterator = iter(loader)
    next(iterator)
    assert loader.state_dict() == {"epoch": 0, "batches": 1}


def test_iterating_draws_nothing_from_the_global_generator(folder):
    loader = training_loader(folder(2))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    list(loader)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_image_is_skipped_and_reported_by_the_batch(folder, num_workers):
    annotations = folder(4)
    path = annotations.path.parent / "2.jpg"
    path.write_bytes(path.read_bytes()[:500])
    batches = list(training_loader(annotations, num_workers=num_workers))
    lines = [line for batch in batches for line in batch.skipped]
    assert len(lines) >= 1, "it may have been asked for as part of other images, too"
    assert all("2.jpg" in line for line in lines)
    assert 102 not in [image_id for batch in batches for image_id in batch.image_ids]


def answer(pipe):
    pipe.send(pipe.recv())


def test_only_data_workers_are_killed_at_the_end(folder):
    """Another daemon of the host program lives on."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=answer, args=(theirs,), daemon=True)
    child.start()
    theirs.close()
    loading._kill_workers()
    ours.send("still here")
    assert ours.recv() == "still here"
    child.join()
    before = set(multiprocessing.active_children())
    batches = iter(training_loader(folder(4), num_workers=2))
    next(batches)
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    assert started <= set(loading._workers)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_error_of_a_worker_stays_one_line(folder, num_workers):
    annotations = folder(2)
    path = annotations.path.parent / "1.jpg"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError) as caught:
        list(evaluation_loader(annotations, num_workers=num_workers))
    assert str(caught.value).startswith(f"{path}: cannot be read")
    assert "\n" not in str(caught.value)
