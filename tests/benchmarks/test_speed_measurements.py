"""Measurements of our detector in tiny settings: they report the numbers that the tables read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_settings import TINY

from benchmarks.speed import ours
from benchmarks.speed.clock import MARK

SETTINGS = TINY | {"dino_model": "facebook/dinov2-small"}
Measure = Callable[..., dict[str, float]]


@pytest.fixture
def measure(capsys: pytest.CaptureFixture[str]) -> Measure:
    """Return a function that takes a measurement and returns the reported numbers."""

    def take(measurement: Callable[..., None], **arguments: Any) -> dict[str, float]:
        measurement(**arguments)
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(MARK)]
        return json.loads(line.removeprefix(MARK))

    return take


def test_a_training_step(measure: Measure) -> None:
    numbers = measure(ours.step, settings=SETTINGS, batch=2, boxes=3)
    assert numbers["seconds"] > 0
    assert numbers["kept_bytes"] > 0
    twice = measure(ours.step, settings=SETTINGS, batch=4, boxes=3)
    assert 1.5 < twice["operations"] / numbers["operations"] <= 2.1


def test_the_share_of_matching_and_losses(measure: Measure) -> None:
    assert 0 < measure(ours.losses_share, settings=SETTINGS, batch=2, boxes=3)["share"] < 1


def test_matching(measure: Measure) -> None:
    assert measure(ours.matching, batch=2, queries=10, boxes=3)["seconds"] > 0


def test_the_input_pipeline(measure: Measure, two_images: Path) -> None:
    data = {
        "train_images": str(two_images / "train"),
        "train_annotations": str(two_images / "annotations" / "instances_train.json"),
    }
    assert measure(ours.pipeline, settings=SETTINGS | data, images=2)["images_per_second"] > 0


def test_the_latency_of_a_picture(measure: Measure, two_images: Path) -> None:
    picture = str(two_images / "val" / "31.png")
    assert measure(ours.latency, settings=SETTINGS, picture=picture, precision="32")["seconds"] > 0


def test_the_share_of_the_backbone(measure: Measure) -> None:
    assert measure(ours.backbone_share, settings=SETTINGS, precision="32", batch=1)["share"] > 0
