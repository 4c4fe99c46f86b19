from __future__ import annotations

import pytest
import torch

from dino_detector.config import AugmentationConfig, ImageSize
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.dataset import CocoDetection, SampleKey

MOSAIC = AugmentationConfig(mosaic_probability=1.0, photometric_probability=0.0, flip_probability=0.5)
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
"""brightness of the objects; the background has a tenth of it"""


def coloured(label: int, height: int, width: int, box: list[int]) -> tuple[torch.Tensor, list[list[int]], list[int]]:
    colour = torch.tensor(COLOURS[label], dtype=torch.uint8).view(3, 1, 1)
    image = (colour // 10).repeat(1, height, width)
    left, top, right, bottom = box
    image[:, top:bottom, left:right] = colour
    return image, [box], [label]


@pytest.fixture
def five(pictures):
    """Return five images of different sizes and shapes; objects of image i have label i."""
    return pictures(
        coloured(0, 100, 160, [40, 30, 100, 70]),
        coloured(1, 160, 100, [20, 50, 60, 120]),
        coloured(2, 90, 90, [30, 30, 60, 60]),
        coloured(3, 300, 400, [100, 100, 300, 200]),
        coloured(4, 120, 200, [60, 20, 140, 100]),
    )


def data(images, mode="stretch", on_bad_image="skip"):
    view = Augmentation(MOSAIC, resize_mode=mode, seed=1, no_augment_from=99)
    return CocoDetection(images, view=view, on_bad_image=on_bad_image)


def hues(image: torch.Tensor) -> torch.Tensor:
    """Return for each pixel ``[H, W]`` the image whose colour it has."""
    directions = torch.nn.functional.normalize(torch.tensor(COLOURS, dtype=torch.float32), dim=1)
    return torch.einsum("kc,chw->khw", directions, torch.nn.functional.normalize(image.float(), dim=0)).argmax(0)


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [ImageSize(140, 140), ImageSize(98, 196)], ids=str)
def test_four_quadrants_show_the_image_and_three_others(five, mode, size):
    partners = set()
    for epoch in range(40):
        seen = data(five, mode)[SampleKey(epoch, 2, 0, size)]
        assert seen.image_id == 102
        assert (seen.image.amax(dim=0) > 20).all(), "no pixel is left without an image"
        shown = hues(seen.image)
        corners = [int(shown[y, x]) for y in (0, -1) for x in (0, -1)]
        assert corners[0] == 2
        assert 2 not in corners[1:]
        partners |= set(corners[1:])
        assert len(shown.unique()) == len(set(corners))
        y, x = (shown[:, 0] == 2).sum().item(), (shown[0] == 2).sum().item()
        assert (shown[:y, :x] == 2).all()
        assert 0.29 * size.height <= y <= 0.71 * size.height
        assert 0.29 * size.width <= x <= 0.71 * size.width
        for rows, columns, corner in zip(
            (slice(0, y), slice(y, None), slice(y, None)),
            (slice(x, None), slice(0, x), slice(x, None)),
            corners[1:],
            strict=True,
        ):
            assert (shown[rows, columns] == corner).float().mean() > 0.97, "resampling blurs nothing across the seams"
    assert partners == {0, 1, 3, 4}


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_boxes_surround_what_is_visible(five, mode):
    """All bright pixels of a colour lie in boxes of its label; one label may fill two quadrants."""
    size = ImageSize(210, 210)
    kept = 0
    for epoch in range(60):
        seen = data(five, mode)[SampleKey(epoch, 0, 0, size)]
        shown, bright = hues(seen.image), seen.image.amax(dim=0) > 137
        for (left, top, right, bottom), label in zip(seen.boxes_xyxy.tolist(), seen.labels.tolist(), strict=True):
            kept += 1
            inside = ((shown == label) & bright)[round(top) : round(bottom), round(left) : round(right)]
            assert inside.float().mean() > 0.9, "the object fills its box"
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any(), "and reaches all its edges"
            around = ((shown == label) & bright)[
                max(0, round(top) - 2) : round(bottom) + 2, max(0, round(left) - 2) : round(right) + 2
            ]
            assert around.sum() <= inside.sum() + 2 * sum(inside.shape), "but not beyond them"
    assert kept > 120


def test_an_image_is_distorted_as_when_it_is_whole(five):
    """Image 3 is 400 wide and 300 high; stretched into a square, its object of 200 x 100 becomes 3 : 2."""
    ratios = []
    for epoch in range(40):
        seen = data(five)[SampleKey(epoch, 3, 0, ImageSize(420, 420))]
        shown = hues(seen.image)
        x, y = (shown[0] == 3).sum(), (shown[:, 0] == 3).sum()
        for left, top, right, bottom in seen.boxes_xyxy[seen.labels == 3].tolist():
            if 0 < left < right < x and 0 < top < bottom < y:
                ratios.append((right - left) / (bottom - top))
    assert len(ratios) > 10
    assert ratios == pytest.approx([1.5] * len(ratios), abs=0.02)


def break_file(images, position: int) -> None:
    path = images.folder / f"{position}.png"
    path.write_bytes(path.read_bytes()[:60])


def test_a_partner_that_cannot_be_read_is_replaced_by_the_next_and_reported(five):
    break_file(five, 3)
    reported = 0
    for epoch in range(30):
        seen = data(five)[SampleKey(epoch, 0, 0, ImageSize(98, 98))]
        assert seen.image_id == 100
        assert 3 not in hues(seen.image)
        assert all("3.png: cannot be read" in line and "image 103" in line for line in seen.skipped)
        reported += bool(seen.skipped)
    assert 5 < reported < 30


def test_an_image_that_cannot_be_read_is_replaced_as_a_whole(five):
    break_file(five, 1)
    seen = data(five)[SampleKey(0, 1, 0, ImageSize(98, 98))]
    assert seen.image_id == 102
    assert "1.png" in seen.skipped[0]


def test_a_single_image_makes_a_mosaic_of_itself(pictures):
    images = pictures(coloured(0, 100, 160, [40, 30, 100, 70]))
    seen = data(images)[SampleKey(0, 0, 0, ImageSize(98, 98))]
    assert (hues(seen.image) == 0).all()
    assert set(seen.labels.tolist()) == {0}
