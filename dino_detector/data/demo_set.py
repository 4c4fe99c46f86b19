"""The demo set: a small data set of coloured shapes on textured backgrounds, the same on every run."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dino_detector.data.pictures.finding import save_picture
from dino_detector.storage.files import write_whole

# (height, width) of the pictures
SIZES = ((160, 224), (160, 208), (176, 208), (208, 160), (192, 224))


class Shape(NamedTuple):
    """A class of the demo set: a polygon with vertices at these radii and equal angles, and a typical hue in 0..1."""

    category_id: int
    name: str
    radii: tuple[float, ...]
    hue: float


SHAPES = (
    Shape(1, "circle", (1.0,) * 48, 0.0),
    Shape(3, "triangle", (1.0,) * 3, 0.33),
    Shape(7, "square", (1.0,) * 4, 0.61),
    Shape(8, "star", (1.0, 0.45) * 5, 0.14),
)


class DemoFiles(NamedTuple):
    """Paths of the demo set."""

    train_images: Path
    train_annotations: Path
    val_images: Path
    val_annotations: Path


class Drawn(NamedTuple):
    """A drawn object: its class, its visible pixels ``[H, W]`` bool, and whether it is a crowd."""

    shape: Shape
    mask: np.ndarray
    crowd: bool


def write_demo_set(
    folder: str | os.PathLike[str], *, train_images: int = 400, val_images: int = 60, seed: int = 7
) -> DemoFiles:
    """Write the demo set as COCO files and JPEG pictures; equal arguments give equal files.

    Each picture has up to six objects, which may partly hide each other. Boxes are tight around the visible pixels. One
    picture in fifteen is empty, and one in forty has a crowd region.
    """
    paths: list[Path] = []
    for number, (split, count) in enumerate({"train": train_images, "val": val_images}.items()):
        paths += [Path(folder, split), Path(folder, "annotations") / f"instances_{split}.json"]
        _write_split(*paths[-2:], count, np.random.default_rng([seed, number]))
    return DemoFiles(*paths)


def draw_picture(rng: np.random.Generator, *, objects: int, crowd: bool) -> tuple[Image.Image, list[Drawn]]:
    """Draw a picture; return it and its visible objects. A crowd is several small overlapping shapes of one class."""
    height, width = SIZES[rng.integers(len(SIZES))]
    canvas = _background(rng, height, width)
    drawn = [_draw_crowd(rng, canvas)] if crowd else []
    for _ in range(objects):
        _draw_object(rng, canvas, drawn)
    noisy = canvas + 4 * rng.standard_normal(canvas.shape, dtype=np.float32)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), drawn


def tight_box(mask: np.ndarray) -> list[int]:
    """Return the smallest ``[x, y, width, height]`` around the true pixels of a mask ``[H, W]``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def _write_split(images_dir: Path, path: Path, count: int, rng: np.random.Generator) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position in range(count):
        objects = 0 if position % 15 == 14 else int(rng.integers(1, 7))
        picture, drawn = draw_picture(rng, objects=objects, crowd=position % 40 == 20)
        image_id, name = 10 + 3 * position, f"{position:04d}.jpg"
        save_picture(picture, images_dir / name, quality=90)
        images.append({"id": image_id, "file_name": name, "height": picture.height, "width": picture.width})
        for shape, mask, crowd in drawn:
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": shape.category_id}
            sizes = {"bbox": tight_box(mask), "area": int(mask.sum())}
            annotations.append(ids | sizes | {"iscrowd": int(crowd)})
    content = {
        "info": {"description": "Sample data set of dinov2-od: coloured shapes"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": shape.category_id, "name": shape.name} for shape in SHAPES],
    }
    write_whole(path, json.dumps(content))


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a dull background ``[H, W, 3]`` float: a gradient between two colours, and soft blotches."""
    corners = rng.uniform(70, 180, (2, 2, 1)) + rng.uniform(-18, 18, (2, 2, 3))
    blotches = rng.uniform(-35, 35, (9, 9, 1)) + rng.uniform(-8, 8, (9, 9, 3))

    def stretched(values: np.ndarray) -> np.ndarray:
        planes = [Image.fromarray(values[..., c].astype(np.float32)).resize((width, height), 3) for c in range(3)]
        return np.stack([np.asarray(plane) for plane in planes], axis=-1)

    return (stretched(corners) + stretched(blotches)).clip(20, 230)


def _draw_object(rng: np.random.Generator, canvas: np.ndarray, drawn: list[Drawn]) -> None:
    """Paint a shape that leaves most of every earlier shape visible, if a place is found."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    height, width = canvas.shape[:2]
    for _ in range(20):
        radius = float(np.exp(rng.uniform(math.log(11), math.log(42))))
        centre = (rng.uniform(0.8 * radius, width - 0.8 * radius), rng.uniform(0.8 * radius, height - 0.8 * radius))
        coverage = _outline(rng, shape, centre, radius, (height, width))
        mask = coverage > 0.5
        if all((item.mask & ~mask).sum() >= 0.65 * item.mask.sum() for item in drawn):
            drawn[:] = [item._replace(mask=item.mask & ~mask) for item in drawn]
            drawn.append(Drawn(shape, mask, crowd=False))
            _paint(rng, canvas, coverage, _colour(rng, shape))
            return


def _draw_crowd(rng: np.random.Generator, canvas: np.ndarray) -> Drawn:
    shape = SHAPES[rng.integers(len(SHAPES))]
    height, width = canvas.shape[:2]
    middle = rng.uniform((50, 50), (width - 50, height - 50))
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(14):
        x, y = middle + rng.uniform(-36, 36, 2)
        coverage = _outline(rng, shape, (x, y), rng.uniform(6, 9), (height, width))
        mask |= coverage > 0.5
        _paint(rng, canvas, coverage, _colour(rng, shape))
    return Drawn(shape, mask, crowd=True)


def _outline(
    rng: np.random.Generator, shape: Shape, centre: tuple[float, float], radius: float, size: tuple[int, int]
) -> np.ndarray:
    """Return the antialiased coverage ``[H, W]`` in 0..1 of a randomly rotated and squeezed shape."""
    fine = 4
    angles = 2 * math.pi * np.arange(len(shape.radii)) / len(shape.radii) + rng.uniform(0, 2 * math.pi)
    radii = radius * np.array(shape.radii)
    points = np.stack([np.cos(angles) * radii, np.sin(angles) * radii * rng.uniform(0.75, 1)], axis=1) + centre
    x, y = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, size[::-1])
    patch = Image.new("L", ((right - x) * fine, (bottom - y) * fine))
    ImageDraw.Draw(patch).polygon([tuple(point) for point in (points - (x, y)) * fine], fill=255)
    coverage = np.zeros(size, dtype=np.float32)
    coverage[y:bottom, x:right] = np.asarray(patch.reduce(fine), dtype=np.float32) / 255
    return coverage


def _colour(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw an RGB colour ``[3]`` near the hue of a class."""
    hue = round(255 * (shape.hue + rng.uniform(-0.06, 0.06))) % 256
    hsv = (hue, int(rng.integers(140, 235)), int(rng.integers(150, 250)))
    return np.array(Image.new("HSV", (1, 1), hsv).convert("RGB").getpixel((0, 0)), dtype=np.float32)


def _paint(rng: np.random.Generator, canvas: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Blend a shape with shading and a soft shadow into the canvas ``[H, W, 3]``."""
    height, width = coverage.shape
    shadow = Image.fromarray((coverage * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(3))
    shade = np.roll(np.asarray(shadow, dtype=np.float32) / 255, (3, 3), axis=(0, 1))
    canvas *= 1 - 0.45 * (shade * (1 - coverage))[..., None]
    slope = rng.uniform(-0.25, 0.25, 2)
    light = 1 + slope[0] * np.linspace(-1, 1, width) + slope[1] * np.linspace(-1, 1, height)[:, None]
    canvas += coverage[..., None] * (light[..., None] * colour - canvas)
