from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_convert

from dino_detector.config import ImageSize
from dino_detector.data.pictures.decoding import read_image
from dino_detector.data.windows import boxes_to_original, content_size, map_window, resize_to_input, whole_window

MEAN = (124, 116, 104)
SIZES = [ImageSize(224, 224), ImageSize(140, 280), ImageSize(280, 140), ImageSize(518, 518)]
ORIGINALS = [(427, 640), (640, 427), (333, 517), (100, 997), (60, 60)]


def moved(boxes: list[list[float]], original: tuple[int, int], size: ImageSize, mode: str) -> torch.Tensor:
    """Boxes (xyxy) of a whole image in pixels of the input."""
    piece = map_window(whole_window(original), original, place=whole_window(size), resize_mode=mode)
    return torch.from_numpy(piece.move(np.array(boxes, np.float32).reshape(-1, 4)))


def white_box_on_mean_colour(height: int, width: int, box: list[int]) -> torch.Tensor:
    image = torch.tensor(MEAN, dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)
    left, top, right, bottom = box
    image[:, top:bottom, left:right] = 255
    return image


def as_fractions(boxes_xyxy: torch.Tensor, size: ImageSize) -> torch.Tensor:
    sides = torch.tensor([size.width, size.height, size.width, size.height])
    return box_convert(boxes_xyxy / sides, "xyxy", "cxcywh")


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("original", ORIGINALS, ids=str)
def test_pixels_seen_in_the_input_return_to_the_original_within_half_a_pixel(mode, size, original, tmp_path):
    """The mass and the centre of the white pixels measure the box in the transformed image."""
    height, width = original
    drawn = [round(0.3 * width), round(0.2 * height), round(0.9 * width), round(0.7 * height)]
    pixels = white_box_on_mean_colour(height, width, drawn).permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", expected_size=original)
    image = resize_to_input(image, image_size=size, resize_mode=mode)
    assert image.shape == (3, *size)

    white = ((image[2].double() - MEAN[2]) / (255 - MEAN[2])).clamp(min=0)
    seen = []
    for axis, length in ((0, size.width), (1, size.height)):
        profile = white.sum(axis) / white.sum(axis).max()
        centre = (profile * (torch.arange(length) + 0.5)).sum() / profile.sum()
        seen.append((centre / length, profile.sum() / length))
    (centre_x, box_width), (centre_y, box_height) = seen
    boxes = torch.stack([centre_x, centre_y, box_width, box_height]).view(1, 1, 4)
    returned = boxes_to_original(boxes, torch.tensor([original]), image_size=size, resize_mode=mode)
    assert (returned[0, 0] - torch.tensor(drawn)).abs().max() < 0.5


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_boxes_of_a_batch_return_to_original_pixels(mode, size):
    generator = torch.Generator().manual_seed(0)
    before, after = [], []
    for height, width in ORIGINALS:
        corners = torch.rand(30, 2, 2, generator=generator).sort(dim=1).values
        boxes = (corners * torch.tensor([width, height])).flatten(1)
        before.append(boxes)
        after.append(as_fractions(moved(boxes.tolist(), (height, width), size, mode), size))
    returned = boxes_to_original(torch.stack(after), torch.tensor(ORIGINALS), image_size=size, resize_mode=mode)
    assert (returned - torch.stack(before)).abs().max() < 0.01


def test_letterbox_keeps_the_aspect_ratio_top_left_on_the_mean_colour():
    size = ImageSize(100, 100)
    image = torch.full((3, 100, 200), 255, dtype=torch.uint8)
    seen = resize_to_input(image, image_size=size, resize_mode="letterbox")
    assert moved([[0, 0, 200, 100]], (100, 200), size, "letterbox").tolist() == [[0, 0, 100, 50]]
    assert (seen[:, :50] == 255).all()
    assert (seen[:, 50:] == torch.tensor(MEAN).view(3, 1, 1)).all()


def test_boxes_to_original_by_hand():
    boxes = torch.tensor([[[0.5, 0.25, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 0.25]]])
    sizes = torch.tensor([[100, 200]])
    size = ImageSize(100, 100)
    letterboxed = boxes_to_original(boxes, sizes, image_size=size, resize_mode="letterbox")
    assert letterboxed.tolist() == [[[50, 25, 150, 75], [0, 0, 200, 100], [0, 0, 50, 25]]]
    stretched = boxes_to_original(boxes, sizes, image_size=size, resize_mode="stretch")
    assert stretched.tolist() == [[[50, 12.5, 150, 37.5], [0, 0, 200, 100], [0, 0, 50, 12.5]]]


def test_letterbox_rounds_to_whole_pixels_and_never_to_none():
    sizes = torch.tensor([[100, 200], [333, 517], [1, 5000], [5000, 1], [70, 70]])
    filled = content_size(sizes, image_size=ImageSize(224, 224), resize_mode="letterbox")
    # 333 * 224 / 517 = 144.28
    assert filled.tolist() == [[112, 224], [144, 224], [1, 224], [224, 1], [224, 224]]


def test_evaluation_keeps_every_box_however_small():
    boxes = [[0, 0, 120, 90], [5, 5, 5.2, 5.2], [119, 89, 120, 90]]
    kept = moved(boxes, (90, 120), ImageSize(42, 56), "letterbox")
    assert len(kept) == 3
    assert (kept[:, 2:] > kept[:, :2]).all()
