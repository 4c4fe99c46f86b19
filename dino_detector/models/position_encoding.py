"""Sine encodings of coordinates, for the positions of keys and the reference points of queries.

Sources: Vaswani et al., https://arxiv.org/abs/1706.03762, per axis as in DETR; boxes as in Liu et al., "DAB-DETR",
https://arxiv.org/abs/2201.12329, with its temperature of 20 for coordinates in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec

import torch
from torch import Tensor

TEMPERATURE = 20.0

Arguments = ParamSpec("Arguments")


def sine_encoding(coordinates: Tensor, dim: int) -> Tensor:
    """Encode each coordinate with sines and cosines of decreasing frequency.

    Args:
        coordinates: ``[..., K]``, each in 0..1.
        dim: even number of values per coordinate.

    Returns:
        ``[..., K * dim]``, for each coordinate ``dim / 2`` sines, then ``dim / 2`` cosines.
    """
    exponents = torch.arange(dim // 2, device=coordinates.device) / (dim // 2)
    frequencies = 2 * math.pi / TEMPERATURE**exponents
    phases = coordinates.float()[..., None] * frequencies  # [..., K, dim/2]
    return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)


def cached_table(compute: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Cache the constant tensor that a function computes from sizes and a device.

    Tracing and compilation recompute it, so that it becomes a constant of the program.
    """
    cached = lru_cache(maxsize=64)(compute)

    @wraps(compute)
    def look_up(*arguments: Arguments.args, **named: Arguments.kwargs) -> Tensor:
        if torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
            return compute(*arguments, **named)
        with torch.inference_mode(False):  # training can't use a tensor that was computed in inference mode
            return cached(*arguments, **named)

    return look_up


def cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return the centres (x, y) of the cells of a map, row by row, ``[height * width, 2]`` in 0..1."""
    ys = (torch.arange(height, device=device) + 0.5) / height
    xs = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1).flatten(0, 1)


@cached_table
def grid_encoding(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Return the encoding of the cell centres of a map, row by row, ``[height * width, dim]``, half of it for x."""
    return sine_encoding(cell_centres(height, width, device), dim // 2)
