"""Each part of `models.cpu` can be switched off for its measurement, and changes no detection."""

from __future__ import annotations

import pytest
import torch
from tiny_settings import TINY

from benchmarks.speed import cpu_parts
from benchmarks.speed.ours import TrainingStep

SETTINGS = TINY | {"dino_model": "facebook/dinov2-small", "precision": "32"}


@pytest.mark.parametrize("name", cpu_parts.PARTS)
def test_a_detector_without_a_part_detects_the_same(name: str):
    switch, _ = cpu_parts.PARTS[name]
    detector = TrainingStep(SETTINGS, batch=1, boxes=1).detector.optimize(precision="32")
    image = torch.randint(256, (3, 56, 56), dtype=torch.uint8)
    (expected,) = detector.detect([image])
    for on in (False, True):
        switch(detector, on)
        (found,) = detector.detect([image])
        torch.testing.assert_close(found.scores, expected.scores)


def test_gains_are_measured_for_pictures_and_steps():
    found = cpu_parts.gains(["packed_linear", "depthwise"], SETTINGS, batch=2, rounds=1)
    assert found.keys() == {("packed_linear", "picture"), ("packed_linear", "step"), ("depthwise", "step")}
    assert all(gain > 0 for gain in found.values())
