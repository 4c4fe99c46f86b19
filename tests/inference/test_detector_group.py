"""Detectors on one trunk give the same detections as each detector alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoders import TINY_DETECTOR
from torch import Tensor

from dino_detector import Detector, DetectorGroup
from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.inference.detector import build_detector
from dino_detector.structures.categories import Categories

SETTINGS = TINY_DETECTOR | {"two_stage": True}


@pytest.fixture
def write_detector(dinov2_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the checkpoint of a detector whose trained weights have all left their initial values."""

    def write(name: str, *, seed: int, classes: int = 2, **changes: Any) -> Path:
        settings = SETTINGS | {"dino_model": str(dinov2_folder)} | changes
        categories = Categories(tuple(range(10, 10 + classes)), tuple(f"{name} {number}" for number in range(classes)))
        torch.manual_seed(seed)
        detector = build_detector(Config.from_flat(settings), categories=categories)
        with torch.no_grad():
            for parameter in detector.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape) * 0.3)
        path = tmp_path / f"{name}.pth"
        detector.save(path)
        return path

    return write


@pytest.fixture
def three(write_detector: Callable[..., Path]) -> list[Path]:
    """Return three different detectors; layers 0 and 1 are frozen in each, and one detector reads them."""
    return [
        write_detector("cars", seed=1),
        write_detector("signs", seed=2, classes=3, num_queries=7, use_dora=True, hidden_dim=24, feature_layers=[0, 3]),
        write_detector("trees", seed=3, feature_layers=[1, 2, 3], feature_scales=[2.0, 1.0], two_stage=False),
    ]


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(60, 90), (120, 50), (130, 200)]
    return [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]


def assert_equal(found: Any, expected: Any) -> None:
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    np.testing.assert_array_equal(found.class_id, expected.class_id)
    assert found.data["class_name"].tolist() == expected.data["class_name"].tolist()


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("tile_size", [None, 70])
def test_each_finds_what_it_finds_alone(three: list[Path], tile_size: int | None, precision: str):
    asked = {"threshold": 0.0, "batch_size": 2, "tile_size": tile_size}
    alone = [
        Detector.load(path, device="cpu").optimize(precision=precision).predict(images(), **asked) for path in three
    ]
    found = DetectorGroup(three, device="cpu").optimize(precision=precision).predict(images(), **asked)
    assert [len(of_image) for of_image in found] == [3, 3, 3]
    for of_image, *expected in zip(found, *alone, strict=True):
        for one, other in zip(of_image, expected, strict=True):
            assert_equal(one, other)


def test_an_image_gives_one_result_of_each_detector(three: list[Path]):
    group = DetectorGroup(map(str, three), device="cpu")
    (image, *_) = images()
    cars, signs, trees = group.predict(image, threshold=0.0)
    for found, path in zip((cars, signs, trees), three, strict=True):
        assert_equal(found, Detector.load(path, device="cpu").predict(image, threshold=0.0))
    assert {name.split()[0] for name in signs.data["class_name"]} == {"signs"}
    cut = float(np.median(cars.confidence))
    assert [len(one) for one in group.predict(image, threshold=cut)] == [
        int((one.confidence >= cut).sum()) for one in (cars, signs, trees)
    ]
    assert group.predict([]) == []


def test_a_group_of_one_may_be_named_without_a_list(three: list[Path]):
    for path in (three[0], str(three[0])):
        (found,) = DetectorGroup(path, device="cpu").predict(images()[0], threshold=0.0)
        assert_equal(found, Detector.load(three[0], device="cpu").predict(images()[0], threshold=0.0))


def test_the_trunk_runs_once_and_is_in_memory_once(three: list[Path]):
    group = DetectorGroup(three, device="cpu")
    calls = {"embeddings": 0, "trunk": 0, "tail": 0}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    seen: set[int] = set()
    for detector in group.detectors:
        model = detector.backbone.model
        assert detector.backbone.trunk_depth == 2
        parts = [
            ("embeddings", model.embeddings.patch_embeddings),
            *zip(["trunk"] * 2, model.encoder.layer, strict=False),
        ]
        parts += [("tail", layer) for layer in model.encoder.layer[2:]]
        for name, module in parts:
            if id(module) not in seen:
                seen.add(id(module))
                module.register_forward_hook(count(name))
    group.predict(images(), threshold=0.0, batch_size=3)
    assert calls == {"embeddings": 1, "trunk": 2, "tail": 6}
    trunks = [
        {value.data_ptr() for layer in detector.backbone.model.encoder.layer[:2] for value in layer.parameters()}
        for detector in group.detectors
    ]
    assert trunks[0] == trunks[1] == trunks[2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora_layers": 1}, r"its number of frozen layers .* is 3, but .*first\.pth has 2"),
        ({"feature_layers": [2]}, r"its number of frozen layers .* is 1, but"),
        ({"image_size": "84x56"}, r"its --image_size is 84x56, but .*first\.pth has 56x84"),
        ({"resize_mode": "letterbox"}, r"its --resize_mode is letterbox, but"),
        ({"train_backbone": "full"}, r"has a backbone of its own"),
        ({"backbone_weights": "random"}, r"has a backbone of its own"),
    ],
)
def test_detectors_that_share_no_trunk_are_refused_by_name(
    write_detector: Callable[..., Path], changes: dict[str, Any], reason: str
):
    architecture = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 56}
    if changes.get("backbone_weights") == "random":
        changes = changes | {"backbone_architecture": architecture, "dino_model": "facebook/dinov2-small"}
    first, second = write_detector("first", seed=1), write_detector("second", seed=2, **changes)
    with pytest.raises(InputError, match=rf"second\.pth: {reason}") as caught:
        DetectorGroup([first, second], device="cpu")
    assert "\n" not in str(caught.value)


def test_detectors_of_other_bases_are_refused(
    write_detector: Callable[..., Path], write_dinov2: Callable[..., Path], tmp_path: Path
):
    other = write_dinov2(tmp_path / "other", seed=5)
    paths = [write_detector("first", seed=1), write_detector("second", seed=2, dino_model=str(other))]
    with pytest.raises(InputError, match=r"second\.pth: its base model, .*, is \w{12}, but .*first\.pth has \w{12}"):
        DetectorGroup(paths, device="cpu")
    with pytest.raises(InputError, match="at least one checkpoint"):
        DetectorGroup([])


def test_one_detector_may_have_a_backbone_of_its_own(write_detector: Callable[..., Path]):
    path = write_detector("first", seed=1, train_backbone="full")
    (image, *_) = images()
    (found,) = DetectorGroup([path], device="cpu").predict(image, threshold=0.0)
    assert_equal(found, Detector.load(path, device="cpu").predict(image, threshold=0.0))
