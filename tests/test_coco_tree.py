from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_tree import CATEGORIES, CocoTree, write_coco_tree
from hub_cache import fill_hub_cache, serve_hub_cache
from PIL import Image
from pycocotools import mask as run_lengths

from dino_detector.config import BackboneConfig
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.models.dinov2_base import fingerprint, image_statistics, load_pretrained

NAMES = [f"facebook/dinov2-{size}" for size in ("small", "base", "large", "giant")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> CocoTree:
    """Return a tree with more training images than drawings, so that most images are links."""
    return write_coco_tree(tmp_path_factory.mktemp("coco"), train=100, val=40, test=60)


def contents(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.parametrize(("split", "count"), [("train", 100), ("val", 40)])
def test_a_split_reads_as_coco_with_all_its_oddities(tree: CocoTree, split: str, count: int):
    folder, path = tree.root / f"{split}2017", tree.root / "annotations" / f"instances_{split}2017.json"
    annotations = CocoAnnotations.read(path)
    annotations.with_files(folder)
    ids = [record.image_id for record in annotations.images]
    assert len(set(ids)) == count == len(list(folder.iterdir()))
    assert ids != sorted(ids)
    assert [record.file_name for record in annotations.images] == [f"{image_id:012d}.jpg" for image_id in ids]

    entries = annotations.ground_truth["annotations"]
    crowds = [entry for entry in entries if entry["iscrowd"]]
    assert crowds
    assert {entry["category_id"] for entry in entries if not entry["iscrowd"]} == set(annotations.categories.ids)
    assert {entry["image_id"] for entry in entries} < set(ids)  # some images are empty
    assert [entry["image_id"] for entry in entries] != sorted(entry["image_id"] for entry in entries)
    assert any(value % 1 for entry in entries for value in entry["bbox"])
    assert min(min(entry["bbox"][2:]) for entry in entries) > 1

    modes = set()
    for record in annotations.images:
        with Image.open(folder / record.file_name) as picture:
            assert (picture.format, picture.size) == ("JPEG", (record.width, record.height))
            modes.add(picture.mode)
    assert modes == {"RGB", "L"}
    assert {record.width > record.height for record in annotations.images} == {True, False}


def test_classes_are_those_of_coco(tree: CocoTree):
    ids = [category["id"] for category in CATEGORIES]
    assert contents(tree.train_annotations)["categories"] == contents(tree.test_info)["categories"] == CATEGORIES
    assert ids == sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
    assert len({category["name"] for category in CATEGORIES}) == 80
    assert len({category["supercategory"] for category in CATEGORIES}) == 12


def test_outlines_and_run_lengths_agree_with_areas_and_boxes(tree: CocoTree):
    content = contents(tree.val_annotations)
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for entry in content["annotations"]:
        size = sizes[entry["image_id"]]
        if entry["iscrowd"]:
            assert tuple(entry["segmentation"]["size"]) == size
            encoded = run_lengths.frPyObjects(entry["segmentation"], *size)
            assert run_lengths.area(encoded) == entry["area"]
            assert run_lengths.toBbox(encoded).tolist() == entry["bbox"]
        else:
            (encoded,) = run_lengths.frPyObjects(entry["segmentation"], *size)
            x, y, width, height = entry["bbox"]
            assert run_lengths.area(encoded) == pytest.approx(entry["area"], abs=width + height)  # half the border
            corners = np.reshape(entry["segmentation"], (-1, 2))
            near, far = corners.min(axis=0), corners.max(axis=0)
            assert [*near, *far] == pytest.approx([x, y, x + width, y + height])
            assert (near >= 0).all()
            assert (far <= size[::-1]).all()


def test_objects_are_bright_where_their_boxes_say(tree: CocoTree):
    """A linked image has the annotations of its drawing."""
    annotations = CocoAnnotations.read(tree.train_annotations)
    for record in annotations.images:
        with Image.open(tree.train_images / record.file_name) as picture:
            pixels = np.asarray(picture.convert("RGB")).max(axis=2)
        boxes = [entry["bbox"] for entry in annotations.annotations_of(record.image_id) if not entry["iscrowd"]]
        for x, y, width, height in boxes:
            assert pixels[int(y + 0.6 * height), int(x + width / 2)] > 70


def test_dev_images_are_half_of_the_test_images_without_annotations(tree: CocoTree):
    info, dev_info = contents(tree.test_info), contents(tree.test_dev_info)
    assert set(info) == set(dev_info) == {"info", "licenses", "images", "categories"}
    assert {image["file_name"] for image in info["images"]} == {path.name for path in tree.test_images.iterdir()}
    ids, dev_ids = ({image["id"] for image in part["images"]} for part in (info, dev_info))
    assert dev_ids < ids
    assert (len(ids), len(dev_ids)) == (60, 30)


def test_no_image_is_in_two_splits(tree: CocoTree):
    paths = [tree.train_annotations, tree.val_annotations, tree.test_info]
    ids = [image["id"] for path in paths for image in contents(path)["images"]]
    assert len(set(ids)) == len(ids) == 200


def test_one_box_is_flat_where_that_is_asked(tree: CocoTree, tmp_path: Path):
    flat = write_coco_tree(tmp_path, train=100, val=40, test=60, degenerate=True)
    assert flat.val_annotations.read_bytes() == tree.val_annotations.read_bytes()
    *others, last = contents(flat.train_annotations)["annotations"]
    assert others == contents(tree.train_annotations)["annotations"]
    assert last["bbox"][2:] == [15.52, 0.0]
    assert last["id"] not in {entry["id"] for entry in others}


def test_every_class_is_in_the_smallest_splits_too(tmp_path: Path):
    small = write_coco_tree(tmp_path, train=7, val=1, test=1)
    for path in (small.train_annotations, small.val_annotations):
        assert len(set(CocoAnnotations.read(path).training.labels.tolist())) == 80


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, write_dinov2: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("home") / "hub"
    fill_hub_cache(folder, NAMES, write_dinov2)
    return folder


def test_names_in_the_hub_cache_load_in_this_process(hub: Path, monkeypatch: pytest.MonkeyPatch):
    serve_hub_cache(hub, monkeypatch)
    models = [load_pretrained(name) for name in NAMES]
    assert [model.config.use_swiglu_ffn for model in models] == [False, False, False, True]
    assert len({fingerprint(model) for model in models}) == 4
    assert image_statistics(BackboneConfig(dino_model=NAMES[0])) == ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
