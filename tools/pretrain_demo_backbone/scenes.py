"""Random scenes of shapes, with many outlines, fillings, backgrounds, sizes and kinds of light."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dino_detector.data.demo_set import DemoFiles, tight_box
from tools.pretrain_demo_backbone.shapes import SHAPES, Shape

SIDES = (128, 176)
"""range of the height and width of a scene, in pixels"""
FINE = 3
"""oversampling factor of outlines"""
VISIBLE = 0.5
"""minimum share of an object's visible pixels that a later object must leave visible"""


def write_scenes(folder: Path, *, train_images: int, val_images: int, seed: int = 0) -> DemoFiles:
    """Write JPEG pictures and COCO annotations; equal arguments give equal files."""
    splits = {"train": train_images, "val": val_images}
    for number, (split, count) in enumerate(splits.items()):
        _write_split(folder, split, count, np.random.default_rng([seed, number]))
    return DemoFiles(
        train_images=folder / "train",
        train_annotations=folder / "annotations" / "instances_train.json",
        val_images=folder / "val",
        val_annotations=folder / "annotations" / "instances_val.json",
    )


def _write_split(folder: Path, split: str, count: int, rng: np.random.Generator) -> None:
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for image_id in range(count):
        picture, objects = draw_scene(rng)
        name = f"{image_id:06d}.jpg"
        picture.save(folder / split / name, quality=int(rng.integers(70, 95)))
        images.append({"id": image_id, "file_name": name, "height": picture.height, "width": picture.width})
        entries += [
            {
                "id": len(entries) + number,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": tight_box(mask),
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
            for number, (label, mask) in enumerate(objects, start=1)
        ]
    content = {
        "info": {"description": "Scenes of shapes, on which the demo backbone of dinov2-od is trained"},
        "images": images,
        "annotations": entries,
        "categories": [{"id": number, "name": name} for number, name in enumerate(SHAPES, start=1)],
    }
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def draw_scene(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, np.ndarray]]]:
    """Return a picture, and for each object the index of its shape and its visible pixels ``[H, W]``."""
    height, width = rng.integers(*SIDES, size=2)
    scene = _ground(rng, height, width)
    objects: list[tuple[int, np.ndarray]] = []
    shapes = list(SHAPES.values())
    several_kinds = rng.random() < 0.8
    kinds = rng.integers(len(shapes), size=len(shapes) if several_kinds else 1)
    largest = math.exp(rng.uniform(math.log(8), math.log(48)))  # radius, pixels
    for _ in range(int(rng.integers(1, 25 if largest < 20 else 9))):
        label = int(rng.choice(kinds))
        radius = largest * rng.uniform(0.4, 1)
        centre = rng.uniform(0, 1, 2) * (width, height)
        coverage = _coverage(rng, shapes[label], centre, radius, height, width)
        mask = coverage > 0.5
        if mask.sum() < 20:
            continue
        left = [(kind, seen & ~mask) for kind, seen in objects]
        if any(after.sum() < VISIBLE * before.sum() for (_, after), (_, before) in zip(left, objects, strict=True)):
            continue
        objects = [*left, (label, mask)]
        _paint(rng, scene, coverage, radius)
    if rng.random() < 0.3:
        scene = _blurred(scene, rng.uniform(0.3, 1.2))
    scene += rng.uniform(0, 8) * rng.standard_normal(scene.shape, dtype=np.float32)
    return Image.fromarray(scene.clip(0, 255).astype(np.uint8)), objects


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a background ``[H, W, 3]``: a slowly changing colour, a texture, and sometimes strokes."""
    colour = rng.uniform(20, 235, 3) * rng.uniform(0.5, 1) + rng.uniform(-20, 20)
    ground = np.broadcast_to(colour, (height, width, 3)).astype(np.float32)
    ground = ground + _grain(rng, height, width, cells=3) * rng.uniform(0, 40)
    ground = ground + _grain(rng, height, width, cells=int(rng.integers(6, 60))) * rng.uniform(0, 25)
    if rng.random() < 0.4:
        strokes = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        for _ in range(int(rng.integers(1, 8))):
            ends = [tuple(rng.uniform(0, 1, 2) * (width, height)) for _ in range(int(rng.integers(2, 5)))]
            ImageDraw.Draw(strokes).line(ends, fill=_colour(rng), width=int(rng.integers(1, 4)))
        ground = np.asarray(strokes, dtype=np.float32)
    return ground


def _grain(rng: np.random.Generator, height: int, width: int, *, cells: int) -> np.ndarray:
    """Return smooth noise ``[H, W, 3]``, mostly in -1..1, from ``cells`` random values along each side."""
    grey, tint = rng.uniform(-1, 1, (cells, cells, 1)), rng.uniform(-0.3, 0.3, (cells, cells, 3))
    planes = (grey + tint).astype(np.float32)
    resized = [Image.fromarray(planes[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(plane) for plane in resized], axis=-1)


def _coverage(
    rng: np.random.Generator, shape: Shape, centre: np.ndarray, radius: float, height: int, width: int
) -> np.ndarray:
    """Return the coverage ``[H, W]`` of each pixel, 0..1, by a randomly rotated, mirrored and squeezed shape."""
    turn, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1)
    rotation = np.array([(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))])
    matrix = np.diag((rng.choice((-1, 1)), squeeze)) @ rotation * radius
    corner = np.maximum(np.floor(centre - radius - 1).astype(int), 0)
    end = np.minimum(np.ceil(centre + radius + 1).astype(int), (width, height))
    patch = Image.new("L", tuple(int(side) for side in (end - corner) * FINE))
    draw = ImageDraw.Draw(patch)
    for polygons, value in ((shape.outlines, 255), (shape.holes, 0)):
        for polygon in polygons:
            draw.polygon([tuple(point) for point in (polygon @ matrix + centre - corner) * FINE], fill=value)
    coverage = np.zeros((height, width), dtype=np.float32)
    coverage[corner[1] : end[1], corner[0] : end[0]] = np.asarray(patch.reduce(FINE), dtype=np.float32) / 255
    return coverage


def _paint(rng: np.random.Generator, scene: np.ndarray, coverage: np.ndarray, radius: float) -> None:
    """Blend a shape into the scene ``[H, W, 3]``, with random filling, opacity and light."""
    height, width = coverage.shape
    filling = np.broadcast_to(np.array(_colour(rng), dtype=np.float32), scene.shape)
    style = rng.choice(["plain", "grain", "stripes", "dots", "edge"], p=[0.4, 0.2, 0.15, 0.1, 0.15])
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    other = np.array(_colour(rng), dtype=np.float32)
    if style == "grain":
        filling = filling + _grain(rng, height, width, cells=int(rng.integers(8, 50))) * rng.uniform(10, 50)
    elif style == "stripes":
        turn, period = rng.uniform(0, math.pi), radius * rng.uniform(0.25, 0.8)
        wave = np.sin((columns * math.cos(turn) + rows * math.sin(turn)) * 2 * math.pi / period)
        filling = np.where(wave[..., None] > 0, filling, other)
    elif style == "dots":
        period = radius * rng.uniform(0.3, 0.7)
        wave = np.sin(columns * 2 * math.pi / period) * np.sin(rows * 2 * math.pi / period)
        filling = np.where(wave[..., None] > 0.3, filling, other)
    elif style == "edge":
        inner = Image.fromarray((coverage * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(max(1.0, radius * 0.15)))
        coverage = coverage * np.clip(2.2 * (1 - np.asarray(inner, dtype=np.float32) / 255), 0, 1)
    light = 1 + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, width)
    light = light + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, height)[:, None]
    opacity = rng.uniform(0.45, 1) if rng.random() < 0.4 else 1.0
    scene += (opacity * coverage)[..., None] * (light[..., None] * filling - scene)


def _blurred(scene: np.ndarray, radius: float) -> np.ndarray:
    picture = Image.fromarray(scene.clip(0, 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(0, 256, 3))
