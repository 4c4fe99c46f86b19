"""Scenes and shapes for the pretraining of the demo backbone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dino_detector.data import demo_set as sample
from tools.pretrain_demo_backbone.scenes import draw_scene, write_scenes
from tools.pretrain_demo_backbone.shapes import SHAPES, polar, rectangle


@pytest.mark.parametrize("name", SHAPES)
def test_outlines_are_centred_in_the_unit_circle(name: str) -> None:
    points = np.concatenate(SHAPES[name].outlines)
    assert np.hypot(*points.T).max() == pytest.approx(1)
    assert np.ptp(points, axis=0).min() > 0.25, "no shape is as thin as a line"
    assert np.abs((points.max(axis=0) + points.min(axis=0)) / 2).max() < 0.5


def test_a_rectangle_has_the_given_sides_and_centre() -> None:
    corners = rectangle(2, 1, 0.5, -0.25)
    assert corners.min(axis=0).tolist() == [-0.5, -0.75]
    assert corners.max(axis=0).tolist() == [1.5, 0.25]


def silhouette(outlines: list[np.ndarray], holes: list[np.ndarray], *, turn: float = 0.0) -> np.ndarray:
    """Return a mask of 160 x 160 pixels of a shape, rotated, centred and scaled to a fixed area."""
    side = 160
    rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    scale, middle = side / 3, np.array([0.0, 0.0])
    for _ in range(3):
        canvas = Image.new("1", (side, side))
        for polygons, value in ((outlines, 1), (holes, 0)):
            for polygon in polygons:
                points = (polygon - middle) @ rotation * scale + side / 2
                ImageDraw.Draw(canvas).polygon([tuple(point) for point in points], fill=value)
        mask = np.asarray(canvas)
        centre = np.argwhere(mask).mean(axis=0)[::-1] + 0.5 - side / 2
        middle = middle + centre / scale @ rotation.T
        scale *= np.sqrt(5000 / mask.sum())
    return mask


def test_a_silhouette_does_not_depend_on_position_and_size() -> None:
    square = rectangle(1, 1)
    masks = [silhouette([outline], []) for outline in (square, square * 1.4, square * 0.7 + 0.3)]
    for mask in masks:
        assert (mask & masks[0]).sum() / (mask | masks[0]).sum() > 0.95
    turned = silhouette([square], [], turn=np.pi / 4)
    assert (turned & masks[0]).sum() / (turned | masks[0]).sum() < 0.9


@pytest.mark.parametrize("name", SHAPES)
def test_no_shape_is_a_class_of_the_demo_data_set(name: str) -> None:
    """No shape covers the pixels of such a class at any rotation; an outline with a hole is a different shape."""
    shape = SHAPES[name]
    turns = np.deg2rad(np.arange(0, 360, 6))
    masks = [silhouette(shape.outlines, shape.holes, turn=turn) for turn in turns]
    for held_back in sample.SHAPES:
        theirs = silhouette([polar(held_back.radii)], [])
        overlaps = [(mask & theirs).sum() / (mask | theirs).sum() for mask in masks]
        assert max(overlaps) < 0.93, held_back.name
    assert name not in {held_back.name for held_back in sample.SHAPES}


def test_scenes_depend_on_the_seed(tmp_path: Path) -> None:
    first, second, other = (
        write_scenes(tmp_path / name, train_images=3, val_images=2, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for name in ("000000.jpg", "000002.jpg"):
        assert (first.train_images / name).read_bytes() == (second.train_images / name).read_bytes()
    assert first.train_annotations.read_bytes() == second.train_annotations.read_bytes()
    assert first.train_annotations.read_bytes() != other.train_annotations.read_bytes()
    assert len(json.loads(first.val_annotations.read_text())["images"]) == 2


def test_every_object_stays_visible_and_no_pixel_has_two_objects() -> None:
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
