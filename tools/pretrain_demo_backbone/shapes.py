"""Outlines of the shapes in the scenes.

None is a class of the demo data set (circle, triangle, square, five-pointed star), but some are a circle or a square
with a hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    """Polygons ``[N, 2]`` within the unit circle, with y downwards: filled outlines, and holes that are cut out."""

    outlines: list[np.ndarray]
    holes: list[np.ndarray]


def polar(radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return vertices ``[N, 2]`` at these radii and at even angles."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(radii)[:, None]


def spikes(count: int, inner: float) -> np.ndarray:
    """Return a star with ``count`` points, whose notches have the radius ``inner``."""
    return polar([1.0, inner] * count)


def petals(count: int, depth: float) -> np.ndarray:
    """Return a flower with ``count`` petals, whose notches have the radius 1 - 2 * ``depth``."""
    return polar(1 - depth + depth * np.cos(count * 2 * np.pi * np.arange(96) / 96))


def rectangle(width: float, height: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """Return a rectangle around the point ``(x, y)``."""
    return np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2 + (x, y)


def _points(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=float)


def _heart() -> np.ndarray:
    t = 2 * np.pi * np.arange(64) / 64
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1) / 17.5


def _drop() -> np.ndarray:
    t = 2 * np.pi * np.arange(64) / 64
    return np.stack([np.sin(t) * np.sin(t / 2) * 0.9, -np.cos(t)], axis=1)


DISC = polar([1.0] * 48)

_DRAWN: dict[str, Shape] = {
    "pentagon": Shape([polar([1.0] * 5)], []),
    "hexagon": Shape([polar([1.0] * 6)], []),
    "star of 3": Shape([spikes(3, 0.3)], []),
    "star of 4": Shape([spikes(4, 0.4)], []),
    "star of 6": Shape([spikes(6, 0.55)], []),
    "star of 9": Shape([spikes(9, 0.7)], []),
    "clover": Shape([petals(3, 0.25)], []),
    "flower": Shape([petals(5, 0.18)], []),
    "gear": Shape([polar([1.0, 1.0, 0.75, 0.75] * 8)], [DISC * 0.3]),
    "ellipse": Shape([DISC * (1.0, 0.5)], []),
    "stick": Shape([rectangle(1.9, 0.3)], []),
    "bar": Shape([rectangle(1.8, 0.75)], []),
    "ring": Shape([DISC], [DISC * 0.6]),
    "eye": Shape([DISC * (1.0, 0.6)], [DISC * 0.3]),
    "frame": Shape([rectangle(1.4, 1.4)], [rectangle(0.8, 0.8)]),
    "crescent": Shape([DISC], [DISC * 0.85 + (0.5, 0.0)]),
    "half disc": Shape([DISC[:25] - (0.0, 0.4)], []),
    "quarter": Shape([np.concatenate([DISC[:13] * 1.4, _points((0.0, 0.0))]) - (0.5, 0.5)], []),
    "cross": Shape([rectangle(1.9, 0.6), rectangle(0.6, 1.9)], []),
    "tee": Shape([rectangle(1.6, 0.5, 0.0, -0.55), rectangle(0.5, 1.5)], []),
    "ell": Shape([rectangle(0.5, 1.6, -0.45), rectangle(1.4, 0.5, 0.0, 0.55)], []),
    "u": Shape([rectangle(1.4, 1.4)], [rectangle(0.6, 1.0, 0.0, -0.25)]),
    "zed": Shape([rectangle(1.0, 0.45, -0.3, -0.5), rectangle(0.45, 1.3), rectangle(1.0, 0.45, 0.3, 0.5)], []),
    "arrow": Shape(
        [_points((-1, -0.25), (0.1, -0.25), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25))], []
    ),
    "chevron": Shape([_points((-0.8, -0.9), (0.1, -0.9), (0.9, 0), (0.1, 0.9), (-0.8, 0.9), (0, 0))], []),
    "house": Shape([_points((0, -1), (0.9, -0.2), (0.7, 0.9), (-0.7, 0.9), (-0.9, -0.2))], []),
    "hourglass": Shape([_points((-0.8, -0.9), (0.8, -0.9), (0.15, 0), (0.8, 0.9), (-0.8, 0.9), (-0.15, 0))], []),
    "lightning": Shape([_points((0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.35, 1), (0.6, -0.2), (0.05, -0.2))], []),
    "trapezoid": Shape([_points((-0.4, -0.6), (0.4, -0.6), (1, 0.6), (-1, 0.6))], []),
    "kite": Shape([_points((0, -1), (0.55, -0.3), (0, 1), (-0.55, -0.3))], []),
    "heart": Shape([_heart()], []),
    "drop": Shape([_drop()], []),
}


def _in_unit_circle(shape: Shape) -> Shape:
    farthest = max(np.hypot(*outline.T).max() for outline in shape.outlines)
    return Shape([outline / farthest for outline in shape.outlines], [hole / farthest for hole in shape.holes])


SHAPES = {name: _in_unit_circle(shape) for name, shape in _DRAWN.items()}
"""shapes by name, which are also the classes"""
