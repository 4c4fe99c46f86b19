from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from dino_detector.data.augmentation.pipeline import RGB_TO_YIQ, ColorJitter

NONE = ColorJitter(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0)


def photograph() -> torch.Tensor:
    """Return colours that no change below moves out of 0..255, because torchvision clips between its steps."""
    return torch.randint(90, 160, (3, 30, 40), dtype=torch.uint8)


def test_no_change_changes_nothing():
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    assert torch.equal(NONE.apply(image), image)


@pytest.mark.parametrize(
    ("change", "reference"),
    [
        (NONE._replace(brightness=0.9), lambda image: F.adjust_brightness(image, 0.9)),
        (NONE._replace(contrast=1.4), lambda image: F.adjust_contrast(image, 1.4)),
        (NONE._replace(contrast=0.6), lambda image: F.adjust_contrast(image, 0.6)),
        (NONE._replace(saturation=1.4), lambda image: F.adjust_saturation(image, 1.4)),
        (NONE._replace(saturation=0.0), lambda image: F.adjust_saturation(image, 0.0)),
        (
            ColorJitter(1.1, 0.7, 1.3, 0.0),
            lambda image: F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(image, 1.1), 0.7), 1.3),
        ),
    ],
)
def test_brightness_contrast_and_saturation_are_those_of_torchvision(change, reference):
    """The tolerance is one level of 255 for each step, because torchvision truncates to integers after each step."""
    image = photograph()
    changes = sum(value != unchanged for value, unchanged in zip(change, NONE, strict=True))
    assert (change.apply(image).int() - reference(image).int()).abs().max() <= changes


def test_hue_turns_colours_as_far_as_in_the_hsv_space_and_the_same_way():
    """Compare averages over all hues, because the two colour spaces turn single hues by different angles."""
    turns = []
    for hue in np.linspace(0, 1, 60, endpoint=False):
        colour = torch.tensor(colorsys.hsv_to_rgb(hue, 0.3, 0.6)).mul(255).round().byte().view(3, 1, 1)
        turned = NONE._replace(hue=0.05).apply(colour).flatten().tolist()
        turns.append((colorsys.rgb_to_hsv(*(value / 255 for value in turned))[0] - hue + 0.5) % 1 - 0.5)
    assert min(turns) > 0.02
    assert max(turns) < 0.1
    assert np.mean(turns) == pytest.approx(0.05, abs=0.005)


def test_hue_keeps_grey_and_luma():
    grey = torch.arange(0, 256, dtype=torch.uint8).view(1, 16, 16).repeat(3, 1, 1)
    change = NONE._replace(hue=0.05)
    assert torch.equal(change.apply(grey), grey)
    image = photograph()
    before, after = (np.tensordot(RGB_TO_YIQ[0], each.numpy(), 1) for each in (image, change.apply(image)))
    assert np.abs(before - after).max() < 0.6


def test_a_whole_turn_of_the_hue_returns():
    image = photograph()
    half = NONE._replace(hue=0.5, saturation=0.5)
    assert (half.apply(half.apply(image)).int() - NONE._replace(saturation=0.25).apply(image).int()).abs().max() <= 2


def test_colours_stay_in_range():
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    wild = ColorJitter(1.125, 1.5, 1.5, 0.05).apply(image)
    assert wild.dtype == torch.uint8
    assert wild.shape == image.shape
    assert wild.min() == 0
    assert wild.max() == 255
