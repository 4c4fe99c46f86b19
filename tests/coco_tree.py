"""A small stand-in for COCO 2017: its folders, files, ids and oddities, with coloured shapes as objects."""

from __future__ import annotations

import colorsys
import json
import math
import shutil
from collections.abc import Sequence
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SUPERCATEGORIES = {
    "person": {1: "person"},
    "vehicle": {
        **{2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat"},
    },
    "outdoor": {10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    "animal": {
        **{16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear"},
        **{24: "zebra", 25: "giraffe"},
    },
    "accessory": {27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    "sports": {
        **{34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat"},
        **{40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket"},
    },
    "kitchen": {44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl"},
    "food": {
        **{52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog"},
        **{59: "pizza", 60: "donut", 61: "cake"},
    },
    "furniture": {62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet"},
    "electronic": {72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone"},
    "appliance": {78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator"},
    "indoor": {
        **{84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush"},
    },
}
"""The classes of COCO: 80 ids of 1..90."""

CATEGORIES = [
    {"supercategory": group, "id": category_id, "name": name}
    for group, members in SUPERCATEGORIES.items()
    for category_id, name in members.items()
]

HEADER = {
    "info": {
        "description": "A stand-in for the COCO 2017 Dataset",
        "url": "http://cocodataset.org",
        "version": "1.0",
        "year": 2017,
        "contributor": "COCO Consortium",
        "date_created": "2017/09/01",
    },
    "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}],
}

LARGEST_IMAGE_ID = 581_929
DRAWINGS = 48
SIZES = [(160, 120), (120, 160), (160, 107), (107, 160), (125, 94)]
"""Widths and heights: a quarter of COCO's usual sizes."""
SHAPES = [
    np.array([[0, 0], [1, 0], [1, 1], [0, 1]]),
    np.array([[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]]),
    np.array([[0.5, 0], [1, 1], [0, 1]]),
    np.array([[0.3, 0], [0.7, 0], [1, 0.3], [1, 0.7], [0.7, 1], [0.3, 1], [0, 0.7], [0, 0.3]]),
]
"""Corners of a square, a diamond, a triangle and an octagon in a unit box; four shapes in 20 hues are 80 classes."""


class CocoTree(NamedTuple):
    """The paths of the parts of COCO 2017."""

    root: Path
    train_images: Path
    train_annotations: Path
    val_images: Path
    val_annotations: Path
    test_images: Path
    test_info: Path
    test_dev_info: Path


class Drawing(NamedTuple):
    """An image and its annotations, which have no ids yet."""

    picture: Image.Image
    annotations: list[dict[str, Any]]


def write_coco_tree(
    root: Path, *, train: int = 10_000, val: int = 40, test: int = 60, degenerate: bool = False
) -> CocoTree:
    """Write a small COCO 2017, deterministic for given arguments.

    Every class has boxes in both annotation files. In every eight images of a split, one is greyscale, one has a crowd
    region and one has no annotations. After the first 48 images of a split, the images are hard links to these, with
    annotations of their own: a test that damages an image must delete it and write it again.

    Args:
        root: folder that gets ``train2017/``, ``val2017/``, ``test2017/`` and ``annotations/``.
        train: number of training images, at least 1.
        val: number of validation images, at least 1.
        test: number of test images, which have no annotations; test-dev is every second test image.
        degenerate: add a box of zero height to the last training image, as in COCO's train2017.
    """
    annotations = root / "annotations"
    tree = CocoTree(
        root=root,
        train_images=root / "train2017",
        train_annotations=annotations / "instances_train2017.json",
        val_images=root / "val2017",
        val_annotations=annotations / "instances_val2017.json",
        test_images=root / "test2017",
        test_info=annotations / "image_info_test2017.json",
        test_dev_info=annotations / "image_info_test-dev2017.json",
    )
    annotations.mkdir(parents=True)
    rng = np.random.default_rng(2017)
    ids = iter((1 + rng.permutation(LARGEST_IMAGE_ID)).tolist())

    drawings = draw(val, rng)
    images = write_images(tree.val_images, list(islice(ids, val)), drawings)
    write_json(tree.val_annotations, images, annotate(images, drawings, rng))

    images = write_images(tree.test_images, list(islice(ids, test)), draw(test, rng))
    write_json(tree.test_info, images)
    write_json(tree.test_dev_info, images[::2])

    drawings = draw(train, rng)
    images = write_images(tree.train_images, list(islice(ids, train)), drawings)
    entries = annotate(images, drawings, rng)
    if degenerate:
        free = 1 + max(entry["id"] for entry in entries if not entry["iscrowd"])
        entries.append(flat_box() | {"image_id": images[-1]["id"], "id": free})
    write_json(tree.train_annotations, images, entries)
    return tree


def write_images(folder: Path, image_ids: Sequence[int], drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    """Write an image file for every id, cycling through the drawings; return the entries of ``images``."""
    folder.mkdir()
    paths = [folder / f"{image_id:012d}.jpg" for image_id in image_ids]
    for index, path in enumerate(paths):
        if index < len(drawings):
            drawings[index].picture.save(path, quality=90)
        else:
            link(paths[index % len(drawings)], path)
    sizes = [drawing.picture.size for drawing in drawings]
    return [
        {
            "license": 4,
            "file_name": path.name,
            "coco_url": f"http://images.cocodataset.org/{folder.name}/{path.name}",
            "height": sizes[index % len(drawings)][1],
            "width": sizes[index % len(drawings)][0],
            "date_captured": "2013-11-14 17:02:52",
            "flickr_url": f"http://farm7.staticflickr.com/{path.name}",
            "id": image_id,
        }
        for index, (path, image_id) in enumerate(zip(paths, image_ids, strict=True))
    ]


def link(original: Path, path: Path) -> None:
    """Hard-link a file, or copy it if the file system allows no further hard link."""
    try:
        path.hardlink_to(original)
    except OSError:
        shutil.copyfile(original, path)


def annotate(
    images: Sequence[dict[str, Any]], drawings: Sequence[Drawing], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the entries of ``annotations``, unordered; crowd regions have ids beyond 32 bits, as in COCO."""
    entries = [
        annotation | {"image_id": image["id"]}
        for index, image in enumerate(images)
        for annotation in drawings[index % len(drawings)].annotations
    ]
    ids = (1 + rng.permutation(3 * len(entries))).tolist()
    for entry, free in zip(entries, ids, strict=False):
        crowd_id = 900_000_000_000 + 100_000_000 * entry["category_id"] + entry["image_id"]
        entry["id"] = crowd_id if entry["iscrowd"] else free
    return [entries[position] for position in rng.permutation(len(entries))]


def write_json(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]] | None = None) -> None:
    """Write a COCO file; the files of test images have no ``annotations``."""
    content = HEADER | {"images": images, "categories": CATEGORIES}
    path.write_text(json.dumps(content if annotations is None else content | {"annotations": annotations}))


def draw(count: int, rng: np.random.Generator) -> list[Drawing]:
    """Draw the images for a split of ``count`` images, with every class among them."""
    number = min(count, DRAWINGS)
    annotated = sum(position % 8 != 5 for position in range(number))
    fewest = max(3, math.ceil(len(CATEGORIES) / max(1, annotated)))
    labels = chain.from_iterable(rng.permutation(len(CATEGORIES)).tolist() for _ in repeat(None))
    return [
        draw_one(
            size=SIZES[position % len(SIZES)],
            labels=list(islice(labels, fewest + position % 3 if position % 8 != 5 else 0)),
            grey=position % 8 == 1,
            crowd=position % 8 == 3,
            rng=rng,
        )
        for position in range(number)
    ]


def draw_one(
    *, size: tuple[int, int], labels: Sequence[int], grey: bool, crowd: bool, rng: np.random.Generator
) -> Drawing:
    """Draw shapes on dark noise, each in its own cell; a crowd of the first label's class takes the last cell."""
    width, height = size
    picture = Image.fromarray(rng.integers(0, 60, (height, width, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(picture)
    annotations = []
    cells = grid(size, len(labels) + crowd)
    for label, cell in zip(labels, cells, strict=False):
        corners = place(label, cell, rng)
        pen.polygon(corners.ravel().tolist(), fill=colour(label))
        annotations.append(instance(label, corners))
    if crowd:
        left, top, right, bottom = cells[-1]
        mask = Image.new("1", size)
        for cell in grid((right - left, bottom - top), 4):
            corners = place(labels[0], cell, rng) + np.array([left, top])
            pen.polygon(corners.ravel().tolist(), fill=colour(labels[0]))
            ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=1)
        annotations.append(crowd_region(labels[0], np.asarray(mask)))
    return Drawing(picture.convert("L") if grey else picture, annotations)


def grid(size: tuple[float, float], count: int) -> list[tuple[float, float, float, float]]:
    """Divide a width and height into ``count`` cells, xyxy, that do not overlap."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / max(1, columns))
    corners = ((position % columns, position // columns) for position in range(count))
    return [
        (size[0] * x / columns, size[1] * y / rows, size[0] * (x + 1) / columns, size[1] * (y + 1) / rows)
        for x, y in corners
    ]


def place(label: int, cell: tuple[float, float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Return the corners ``[K, 2]`` of the shape of a class in a cell, rounded to a hundredth of a pixel as in COCO."""
    near, far = np.array(cell[:2]), np.array(cell[2:])
    extent = (far - near) * rng.uniform(0.6, 0.95, 2)
    start = near + (far - near - extent) * rng.uniform(0, 1, 2)
    return np.round(start + SHAPES[label % len(SHAPES)] * extent, 2)


def colour(label: int) -> tuple[int, ...]:
    """Return one of 20 hues."""
    hue = label // len(SHAPES) / (len(CATEGORIES) / len(SHAPES))
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.85, 1.0))


def instance(label: int, corners: np.ndarray) -> dict[str, Any]:
    """Return an annotation with the outline as its segmentation."""
    x, y = corners.T
    near, far = corners.min(axis=0), corners.max(axis=0)
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return {
        "segmentation": [corners.ravel().tolist()],
        "area": round(area, 4),
        "iscrowd": 0,
        "bbox": np.round([*near, *(far - near)], 2).tolist(),
        "category_id": CATEGORIES[label]["id"],
    }


def crowd_region(label: int, mask: np.ndarray) -> dict[str, Any]:
    """Return an annotation with a mask ``[H, W]`` of many objects, as run lengths column by column, zeros first."""
    flat = mask.T.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = [end - start for start, end in pairwise(edges)]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "segmentation": {"counts": [0, *runs] if flat[0] else runs, "size": list(mask.shape)},
        "area": int(mask.sum()),
        "iscrowd": 1,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "category_id": CATEGORIES[label]["id"],
    }


def flat_box() -> dict[str, Any]:
    """Return an annotation whose outline is a line."""
    left, top, width = 9.98, 18.56, 15.52
    return {
        "segmentation": [[left, top, left + width, top, left + width, top]],
        "area": 0.0,
        "iscrowd": 0,
        "bbox": [left, top, width, 0.0],
        "category_id": 58,
    }
