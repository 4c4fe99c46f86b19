"""The scenes that the demo backbone is trained on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "demo_backbone"))

from scenes import draw_scene, write_scenes
from shapes import SHAPES, rectangle

from dino_detector.data import sample


@pytest.mark.parametrize("name", SHAPES)
def test_outlines_lie_around_the_middle_of_the_unit_circle(name: str) -> None:
    points = np.concatenate(SHAPES[name].outlines)
    assert np.hypot(*points.T).max() == pytest.approx(1)
    assert np.ptp(points, axis=0).min() > 0.25, "nothing is as thin as a line"
    assert np.abs((points.max(axis=0) + points.min(axis=0)) / 2).max() < 0.5


def test_a_rectangle_has_its_sides_and_its_middle() -> None:
    corners = rectangle(2, 1, 0.5, -0.25)
    assert corners.min(axis=0).tolist() == [-0.5, -0.75]
    assert corners.max(axis=0).tolist() == [1.5, 0.25]


def test_the_classes_of_the_sample_are_held_back() -> None:
    """Triangle, square, five-pointed star and circle of 48 corners have equal sides; a ring's hole makes another."""
    for name, shape in SHAPES.items():
        for outline in shape.outlines:
            radii = np.hypot(*outline.T)
            sides = np.hypot(*(outline - np.roll(outline, 1, axis=0)).T)
            regular = np.ptp(sides) < 0.05 and (len(outline) not in (3, 4, 48) or np.ptp(radii) < 0.05)
            assert not regular or len(outline) not in (3, 4, 10, 48) or shape.holes, name
    assert not {shape.name for shape in sample.SHAPES} & set(SHAPES)


def test_equal_seeds_give_equal_scenes(tmp_path: Path) -> None:
    first, second, other = (
        write_scenes(tmp_path / name, train_images=3, val_images=2, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for name in ("000000.jpg", "000002.jpg"):
        assert (first.train_images / name).read_bytes() == (second.train_images / name).read_bytes()
    assert first.train_annotations.read_bytes() == second.train_annotations.read_bytes()
    assert first.train_annotations.read_bytes() != other.train_annotations.read_bytes()
    assert len(json.loads(first.val_annotations.read_text())["images"]) == 2


def test_every_object_stays_in_view_and_no_pixel_is_of_two() -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(20):
        picture, objects = draw_scene(rng)
        masks = np.array([mask for _, mask in objects])
        if len(masks):
            assert masks.shape[1:] == (picture.height, picture.width)
            assert masks.sum(axis=0).max() == 1
            assert masks.sum(axis=(1, 2)).min() >= 10
        counts.append(len(masks))
    assert min(counts) < 5 < 12 < max(counts), "scenes are sparse and crowded"
