from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dino_detector.config import AugmentationConfig, ImageSize
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.dataset import CocoDetection, SampleKey, WholeImages
from dino_detector.data.windows import FILL

STILL = {"photometric_probability": 0.0, "flip_probability": 0.0, "copy_paste_probability": 0.0}
WINDOWS = {"zoom_out_probability": 0.3, "crop_probability": 0.5, "copy_paste_probability": 0.0}
WHOLE = STILL | {"scale_range": [1.0, 1.0], "zoom_out_probability": 0.0, "crop_probability": 0.0}


def filled(height: int, width: int, *boxes: tuple[list[int], tuple[int, int, int]]) -> torch.Tensor:
    """Return an image of the padding colour with rectangles (xyxy) of other colours."""
    image = torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)
    for (left, top, right, bottom), colour in boxes:
        image[:, top:bottom, left:right] = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)
    return image


def samples(images, settings, *, size, count, mode="stretch", index=0, no_augment_from=10**6):
    """Return ``count`` samples of an image, one for each epoch."""
    view = Augmentation(AugmentationConfig(**settings), resize_mode=mode, seed=1, no_augment_from=no_augment_from)
    data = CocoDetection(images, view=view, on_bad_image="skip")
    return [data[SampleKey(epoch, index, 0, size)] for epoch in range(count)]


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [ImageSize(98, 98), ImageSize(70, 126)], ids=str)
@pytest.mark.parametrize("scale_range", [[0.8, 1.25], [0.3, 2.0]], ids=str)
def test_boxes_stay_on_their_objects(pictures, mode, size, scale_range):
    """Three boxes have pure colours; a kept box is tight around the visible pixels of its colour, within a pixel."""
    drawn = [[10, 20, 70, 60], [120, 30, 180, 110], [40, 90, 100, 140]]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = pictures((filled(150, 200, *zip(drawn, colours, strict=True)), drawn, [0, 1, 2]))
    settings = WINDOWS | {"photometric_probability": 0.0, "scale_range": scale_range}
    counts = torch.zeros(3)
    for seen in samples(images, settings, size=size, count=150, mode=mode):
        assert seen.image.shape == (3, *size)
        assert len(seen.boxes_xyxy) == len(seen.labels)
        for box, label in zip(seen.boxes_xyxy, seen.labels, strict=True):
            counts[label] += 1
            others = [channel for channel in range(3) if channel != label]
            mask = (seen.image[label] > 185) & (seen.image[others] < 62).all(dim=0)
            rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (box - torch.tensor(around)).abs().max() <= 1.01
    assert (counts > 60).all()  # most are kept
    assert (counts < 150).all()  # and sometimes each is cropped away


def test_zoom_out_crop_and_mirror_images_occur(pictures):
    box = [80, 60, 120, 90]
    image = filled(150, 200, (box, (255, 255, 255)))
    image[:, :, :80] = 0
    images = pictures((image, [box], [0]))
    seen = samples(images, WINDOWS | {"photometric_probability": 0.0}, size=ImageSize(150, 200), count=200)
    widths = torch.cat([sample.boxes_xyxy[:, 2] - sample.boxes_xyxy[:, 0] for sample in seen])
    assert 40 * 0.8 / 2 - 1 <= widths.min() < 25
    assert 70 < widths.max() <= 40 * 1.25 / 0.6 + 1
    images = pictures((image, [box], [0]))
    seen = samples(images, WHOLE | {"flip_probability": 0.5}, size=ImageSize(150, 200), count=200)
    assert 70 < sum(bool(sample.image[:, :, -80:].max() == 0) for sample in seen) < 130


def test_a_crop_keeps_most_of_the_image_and_an_object(pictures):
    """The size of the box, which lies off the centre, shows the kept share of each side."""
    box = [150, 105, 159, 114]
    images = pictures((filled(150, 200, (box, (255, 255, 255))), [box], [0]))
    kept = []
    for seen in samples(images, WHOLE | {"crop_probability": 1.0}, size=ImageSize(1500, 2000), count=300):
        assert len(seen.labels) == 1
        left, top, right, bottom = seen.boxes_xyxy[0].tolist()
        if right < 2000 and bottom < 1500:  # the crop does not cut the box
            kept.append((90 / (right - left), 90 / (bottom - top)))
    shares = np.array(kept)
    assert len(shares) > 200
    pixel = 1 / 150
    assert 0.6 - pixel <= shares.min() < 0.62
    assert 0.97 < shares.max() <= 1
    ratios = np.log(shares[:, 0] / shares[:, 1])
    assert math.log(4 / 3) - 0.05 < np.abs(ratios).max() < math.log(4 / 3) + 2 * pixel
    assert abs(np.mean(ratios > 0) - 0.5) < 0.1


def test_colours_change_only_with_photometric_distortion(pictures):
    image = torch.full((3, 28, 28), 90, dtype=torch.uint8)
    image[0] = 180
    images = pictures((image, [[1, 1, 9, 9]], [0]))
    for probability in (0.0, 1.0):
        settings = WHOLE | {"photometric_probability": probability}
        (seen,) = samples(images, settings, size=ImageSize(28, 28), count=1)
        assert bool((seen.image != image).any()) == bool(probability)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0])
def test_objects_have_the_scale_that_is_drawn(pictures, factor):
    """The side of a box is its side in the whole image times the factor, to a pixel at each end."""
    box = [90, 60, 110, 90]
    images = pictures((filled(150, 200, (box, (255, 255, 255))), [box], [0]))
    settings = WHOLE | {"scale_range": [factor, factor]}
    widths = []
    for seen in samples(images, settings, size=ImageSize(300, 400), count=40):
        for left, top, right, bottom in seen.boxes_xyxy.tolist():
            if min(left, top) > 0 and right < 400 and bottom < 300:
                assert right - left == pytest.approx(40 * factor, abs=1)
                assert bottom - top == pytest.approx(60 * factor, abs=1)
                widths.append(right - left)
    assert len(widths) > 10


def test_scales_are_drawn_evenly_from_their_range(pictures):
    """Factors are uniform, as in the paper: half of the factors between 0.1 and 2 are above 1.05."""
    box = [95, 70, 105, 80]
    images = pictures((filled(150, 200, (box, (255, 255, 255))), [box], [0]))
    settings = WHOLE | {"scale_range": [0.1, 1.0]}
    seen = samples(images, settings, size=ImageSize(600, 800), count=400)
    factors = [(sample.boxes_xyxy[0, 2] - sample.boxes_xyxy[0, 0]).item() / 40 for sample in seen]
    assert np.quantile(factors, [0.25, 0.5, 0.75]) == pytest.approx([0.325, 0.55, 0.775], abs=0.05)


EVERYTHING = {
    "zoom_out_probability": 0.5,
    "scale_range": [0.05, 3.0],
    "crop_probability": 0.9,
    "mosaic_probability": 0.4,
    "copy_paste_probability": 0.7,
}


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_images_of_odd_sizes_and_without_boxes_are_taken(pictures, mode):
    contents = []
    for height, width in ((1, 1), (2, 300), (300, 2), (30, 40)):
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        for boxes in ([], [[0, 0, width, height]], [[0, 0, 0.4, 0.4]]):
            contents.append((image, boxes, [0] * len(boxes)))
    images = pictures(*contents)
    for index in range(len(contents)):
        for seen in samples(images, EVERYTHING, size=ImageSize(28, 42), count=40, mode=mode, index=index):
            assert seen.image.shape == (3, 28, 42)
            assert seen.boxes_xyxy.dtype == torch.float32
            assert seen.boxes_xyxy.shape == (len(seen.labels), 4)
            assert (seen.boxes_xyxy >= 0).all()
            assert (seen.boxes_xyxy <= torch.tensor([42, 28, 42, 28])).all()
            assert (seen.boxes_xyxy[:, 2:] - seen.boxes_xyxy[:, :2] >= 1).all()


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_plain_epochs_show_images_as_they_are_evaluated_and_their_mirror_images(pictures, mode):
    noise = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    images = pictures((noise, [[5, 10, 50, 40]], [3]), (noise.flip(0), [[1, 1, 9, 9]], [2]))
    size = ImageSize(42, 42)
    whole = WholeImages(image_size=size, resize_mode=mode)(images, SampleKey(0, 0))
    settings = EVERYTHING | {"photometric_probability": 0.0}
    mirrored = 0
    for epoch, seen in enumerate(samples(images, settings, size=size, count=40, mode=mode, no_augment_from=20)):
        if epoch < 20:
            assert not torch.equal(seen.image, whole.image)
            continue
        pixels, boxes = seen.image, seen.boxes_xyxy
        if not torch.equal(pixels, whole.image):
            mirrored += 1
            covered = 42  # width that the image covers; a letterboxed image lies at the top left
            pixels = pixels[..., :covered].flip(-1)
            boxes = torch.stack([covered - boxes[:, 2], boxes[:, 1], covered - boxes[:, 0], boxes[:, 3]], dim=1)
        assert torch.equal(pixels, whole.image)
        torch.testing.assert_close(boxes, whole.boxes_xyxy)
        assert seen.labels.tolist() == [3]
    assert 3 < mirrored < 17


@pytest.mark.parametrize(
    ("fraction", "epochs", "first"),
    [(0, 50, 50), (0.1, 50, 45), (0.07, 100, 93), (0.1, 3, 2), (1, 7, 0), (0.5, 1, 0), (0.25, 1, 1)],
)
def test_plain_epochs_are_the_last_and_at_least_one_of_several(fraction, epochs, first):
    assert AugmentationConfig(no_augment_fraction=fraction).no_augment_from(epochs) == first


def test_input_sizes_are_whole_patches_around_the_image_size():
    def sizes(image_size: ImageSize, **settings: float) -> list[ImageSize]:
        return AugmentationConfig(**settings).input_sizes(image_size, 14)

    square = ImageSize(518, 518)  # 37 patches
    assert sizes(square) == [square]
    assert sizes(square, multi_scale=0.25) == [ImageSize(14 * n, 14 * n) for n in range(28, 47)]
    assert sizes(square, multi_scale=0.25, augmentation=False) == [square]
    # 36 x 64 patches: with 58 columns 36 * 58 / 64 = 32.6 rows
    wide = sizes(ImageSize(504, 896), multi_scale=0.1)
    assert wide[0] == ImageSize(14 * 33, 14 * 58)
    assert ImageSize(504, 896) in wide
    assert wide[-1] == ImageSize(14 * 39, 14 * 70)
    assert math.isclose(len(wide), 13)
    assert sizes(ImageSize(14, 56), multi_scale=0.9)[0] == ImageSize(14, 14)
