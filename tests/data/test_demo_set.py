from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.demo_set import SHAPES, draw_picture, tight_box, write_demo_set


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_demo_set_is_the_same_on_every_run_and_differs_with_the_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demo_set(tmp_path / name, train_images=4, val_images=2, seed=seed)
    first, second, third = (digest(tmp_path / name) for name in "abc")
    assert first == second
    assert len(first) == 8
    assert first.keys() == third.keys()
    assert all(first[name] != third[name] for name in first)


def test_the_demo_set_is_coco_with_gaps_empty_images_and_crowds(tmp_path):
    files = write_demo_set(tmp_path, train_images=45, val_images=5)
    for images_dir, path, count in (
        (files.train_images, files.train_annotations, 45),
        (files.val_images, files.val_annotations, 5),
    ):
        annotations = CocoAnnotations.read(path)
        annotations.require_boxes()
        assert annotations.with_files(images_dir) is annotations
        assert annotations.categories.names == tuple(shape.name for shape in SHAPES)
        assert len(annotations.images) == len(list(images_dir.iterdir())) == count
        for record in annotations.images:
            with Image.open(images_dir / record.file_name) as image:
                assert image.size == (record.width, record.height)
                assert record.width != record.height
    annotations = CocoAnnotations.read(files.train_annotations)
    assert annotations.categories.ids == (1, 3, 7, 8)
    counts = [len(annotations.annotations_of(record.image_id)) for record in annotations.images]
    assert counts.count(0) == 3
    assert sum(entry["iscrowd"] for entry in annotations.ground_truth["annotations"]) == 1
    assert {entry["category_id"] for entry in json.loads(files.train_annotations.read_text())["annotations"]} == {
        1,
        3,
        7,
        8,
    }


def test_train_and_val_do_not_share_pictures(tmp_path):
    files = write_demo_set(tmp_path, train_images=6, val_images=6)
    pictures = [path.read_bytes() for path in (*files.train_images.iterdir(), *files.val_images.iterdir())]
    assert len(set(pictures)) == 12


def test_tight_box_by_hand():
    mask = np.zeros((6, 9), dtype=bool)
    mask[2, 3] = mask[4, 7] = True
    assert tight_box(mask) == [3, 2, 5, 3]


def test_masks_are_what_is_visible_of_each_object():
    """Masks do not overlap, and their pixels have the hue of their class; the background is grey."""
    rng = np.random.default_rng(0)
    agreeing = total = 0
    for _ in range(8):
        picture, drawn = draw_picture(rng, objects=5, crowd=False)
        masks = np.stack([item.mask for item in drawn])
        assert masks.sum(axis=0).max() <= 1
        hue, saturation, _ = np.moveaxis(np.asarray(picture.convert("HSV")).astype(int), -1, 0)
        for item in drawn:
            away = (hue[item.mask] - round(255 * item.shape.hue) + 128) % 256 - 128
            agreeing += ((abs(away) < 26) & (saturation[item.mask] > 90)).sum()
            total += item.mask.sum()
    assert agreeing > 0.97 * total


def test_boxes_are_tight_to_the_drawn_pixels():
    """A single object is the only saturated part of the picture, so the picture shows its box."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        picture, (item,) = draw_picture(rng, objects=1, crowd=False)
        box = np.array(tight_box(item.mask))
        hue, saturation, _ = np.moveaxis(np.asarray(picture.convert("HSV")).astype(int), -1, 0)
        away = (hue - round(255 * item.shape.hue) + 128) % 256 - 128
        seen = (abs(away) < 26) & (saturation > 105)
        x, y, width, height = box
        near = np.zeros_like(seen)
        near[max(0, y - 6) : y + height + 6, max(0, x - 6) : x + width + 6] = True
        assert abs(np.array(tight_box(seen & near)) - box).max() <= 2
