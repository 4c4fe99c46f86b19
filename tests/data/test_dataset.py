from __future__ import annotations

import pytest
import torch

from dino_detector.config import ImageSize
from dino_detector.data.coco import CocoAnnotations
from dino_detector.data.dataset import CocoDetection, SampleKey, augmentation_seed
from dino_detector.data.transforms import Augmentation, evaluation_transforms, training_transforms
from dino_detector.errors import InputError

SIZE = ImageSize(28, 42)


def dataset(annotations: CocoAnnotations, *, training: bool = True, on_bad_image="raise", seed: int = 5):
    settings = {"image_size": SIZE, "resize_mode": "stretch"}
    return CocoDetection(
        images_dir=annotations.path.parent,
        annotations=annotations,
        transforms=training_transforms(**settings, augmentation=Augmentation())
        if training
        else evaluation_transforms(**settings),
        seed=seed,
        on_bad_image=on_bad_image,
    )


def break_image(annotations: CocoAnnotations, position: int) -> None:
    path = annotations.path.parent / f"{position}.jpg"
    path.write_bytes(path.read_bytes()[:500])


def test_sample_has_boxes_in_input_pixels_and_the_original_size(folder):
    sample = dataset(folder(2), training=False)[1]
    assert sample.image.shape == (3, 28, 42)
    assert sample.image.dtype == torch.uint8
    # [8, 12, 40, 36] in 64 x 48 pixels
    torch.testing.assert_close(sample.boxes_xyxy.as_subclass(torch.Tensor), torch.tensor([[5.25, 7, 26.25, 21]]))
    assert sample.labels.tolist() == [0]
    assert (sample.image_id, sample.original_size, sample.skipped) == (101, (48, 64), ())


def test_augmentation_depends_on_seed_epoch_and_image_alone(folder):
    annotations = folder(3)
    first = dataset(annotations)[SampleKey(2, 1)]
    torch.manual_seed(99)
    other_order = dataset(annotations)
    for index in (0, 2):
        other_order[SampleKey(2, index)]
    assert torch.equal(other_order[SampleKey(2, 1)].image, first.image)
    assert torch.equal(dataset(annotations)[SampleKey(2, 1)].boxes_xyxy, first.boxes_xyxy)
    assert not torch.equal(other_order[SampleKey(3, 1)].image, first.image)
    assert not torch.equal(dataset(annotations, seed=6)[SampleKey(2, 1)].image, first.image)


def test_augmentation_leaves_the_global_generator_alone(folder):
    data = dataset(folder(1))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    data[0]
    assert torch.equal(torch.rand(3), expected)


def test_augmentation_seeds_do_not_collide():
    triples = [(seed, epoch, image) for seed in range(12) for epoch in range(12) for image in range(12)]
    assert len({augmentation_seed(*triple) for triple in triples}) == len(triples)


def test_epochs_do_not_change_evaluation(folder):
    data = dataset(folder(2), training=False)
    assert torch.equal(data[SampleKey(0, 1)].image, data[SampleKey(7, 1)].image)


def test_bad_image_is_replaced_by_the_next_and_reported(folder):
    annotations = folder(4)
    break_image(annotations, 2)
    break_image(annotations, 3)
    data = dataset(annotations, on_bad_image="skip")
    sample = data[SampleKey(0, 2)]
    assert sample.image_id == 100
    assert len(sample.skipped) == 2
    assert "2.jpg" in sample.skipped[0]
    assert "image 102" in sample.skipped[0]
    assert "3.jpg" in sample.skipped[1]
    assert data[SampleKey(0, 1)].skipped == ()


def test_bad_image_raises_with_file_id_and_remedy(folder):
    annotations = folder(2)
    break_image(annotations, 1)
    with pytest.raises(InputError, match=r"1\.jpg: cannot be .* replace the file, or remove image 101 from .*json"):
        dataset(annotations)[1]


def test_no_readable_image_at_all_is_an_error(folder):
    annotations = folder(2)
    break_image(annotations, 0)
    break_image(annotations, 1)
    with pytest.raises(InputError, match=r"none of the 2 images can be read; the first: .*1\.jpg"):
        dataset(annotations, on_bad_image="skip")[1]
