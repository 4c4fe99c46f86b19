from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dino_detector.config import AugmentationConfig, ImageSize
from dino_detector.data.augmentation.pipeline import Augmentation, augmentation_seed
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, SampleKey, WholeImages
from dino_detector.errors import InputError

SIZE = ImageSize(28, 42)


EVERYTHING = AugmentationConfig(mosaic_probability=0.4, copy_paste_probability=0.7)


def dataset(
    annotations: CocoAnnotations, settings: AugmentationConfig | None = None, *, on_bad_image="raise", seed: int = 5
):
    """Return a dataset; without settings it has whole images."""
    view = WholeImages(image_size=SIZE, resize_mode="stretch")
    if settings is not None:
        view = Augmentation(settings, resize_mode="stretch", seed=seed, no_augment_from=99)
    return CocoDetection(CocoImages(annotations.path.parent, annotations), view=view, on_bad_image=on_bad_image)


def key(epoch: int, index: int, repeat: int = 0, size: ImageSize = SIZE) -> SampleKey:
    return SampleKey(epoch, index, repeat, size)


def break_image(annotations: CocoAnnotations, position: int) -> None:
    path = annotations.path.parent / f"{position}.jpg"
    path.write_bytes(path.read_bytes()[:500])


def test_sample_has_boxes_in_input_pixels_and_the_original_size(folder):
    sample = dataset(folder(2))[1]
    assert sample.image.shape == (3, 28, 42)
    assert sample.image.dtype == torch.uint8
    # [8, 12, 40, 36] in 64 x 48 pixels
    torch.testing.assert_close(sample.boxes_xyxy, torch.tensor([[5.25, 7, 26.25, 21]]))
    assert sample.labels.tolist() == [0]
    assert (sample.image_id, sample.original_size, sample.skipped) == (101, (48, 64), ())


@pytest.mark.parametrize(
    "settings",
    [
        AugmentationConfig(),
        AugmentationConfig(mosaic_probability=1.0),
        AugmentationConfig(copy_paste_probability=1.0),
        EVERYTHING,
    ],
    ids=["default", "mosaic", "copy-paste", "everything"],
)
def test_a_sample_depends_on_seed_epoch_image_and_repeat_alone(folder, settings):
    annotations = folder(6)
    first = dataset(annotations, settings)[key(2, 1)]
    torch.manual_seed(99)
    other_order = dataset(annotations, settings)
    for index in (0, 2):
        other_order[key(2, index)]
    again = other_order[key(2, 1)]
    assert torch.equal(again.image, first.image)
    assert torch.equal(again.boxes_xyxy, first.boxes_xyxy)
    assert torch.equal(again.labels, first.labels)
    for differing in (
        other_order[key(3, 1)],
        other_order[key(2, 1, 1)],
        dataset(annotations, settings, seed=6)[key(2, 1)],
    ):
        assert not torch.equal(differing.image, first.image)


def test_a_sample_has_the_size_of_its_key(folder):
    data = dataset(folder(4), EVERYTHING)
    for size in (ImageSize(28, 42), ImageSize(56, 84), ImageSize(14, 14)):
        for index in range(4):
            sample = data[key(0, index, size=size)]
            assert sample.image.shape == (3, *size)
            assert (sample.boxes_xyxy[:, 2:] <= torch.tensor([size.width, size.height])).all()


def test_augmentation_leaves_the_global_generators_alone(folder):
    data = dataset(folder(3), EVERYTHING)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    for index in range(3):
        data[key(0, index)]
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_augmentation_seeds_do_not_collide():
    quadruples = list(itertools.product(range(8), range(8), range(8), range(3)))
    assert len({augmentation_seed(*quadruple) for quadruple in quadruples}) == len(quadruples)


def test_epochs_do_not_change_evaluation(folder):
    data = dataset(folder(2))
    assert torch.equal(data[key(0, 1)].image, data[key(7, 1)].image)


def test_bad_image_is_replaced_by_the_next_and_reported(folder):
    annotations = folder(4)
    break_image(annotations, 2)
    break_image(annotations, 3)
    data = dataset(annotations, on_bad_image="skip")
    sample = data[2]
    assert sample.image_id == 100
    assert len(sample.skipped) == 2
    assert "2.jpg" in sample.skipped[0]
    assert "image 102" in sample.skipped[0]
    assert "3.jpg" in sample.skipped[1]
    assert data[1].skipped == ()


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


def test_the_others_of_an_image_are_all_but_it(folder, pictures):
    rng = np.random.default_rng(0)
    black = torch.zeros(3, 9, 9, dtype=torch.uint8)
    one, none = (black, [[1, 1, 5, 5]], [0]), (black, [], [])
    images = pictures(none, one, one, none, one)
    for index in range(5):
        assert {images.another(rng, index) for _ in range(100)} == {0, 1, 2, 3, 4} - {index}
        full = {images.another(rng, index, with_objects=True) for _ in range(100)}
        assert full == {1, 2, 4} - {index}
    counts = np.bincount([images.another(rng, 0) for _ in range(4000)], minlength=5)
    assert counts == pytest.approx([0, 1000, 1000, 1000, 1000], abs=120)
    alone = pictures(one)
    assert alone.another(rng, 0) == alone.another(rng, 0, with_objects=True) == 0
