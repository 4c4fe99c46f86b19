"""Sine encodings of coordinates, for the positions of keys and for the reference boxes of queries.

Source: Vaswani et al., https://arxiv.org/abs/1706.03762, per axis as in DETR; boxes as in Liu et al., "DAB-DETR",
https://arxiv.org/abs/2201.12329, whose temperature of 20 suits coordinates in 0..1.
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
    """Encode each coordinate with sines and cosines of falling frequency.

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


def computed_once(table: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Keep what a function of sizes and a device returns, which has no gradient and nobody changes.

    A program that is being traced or compiled gets a constant of its own.
    """
    kept = lru_cache(maxsize=64)(table)

    @wraps(table)
    def look_up(*arguments: Arguments.args, **named: Arguments.kwargs) -> Tensor:
        if torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
            return table(*arguments, **named)
        with torch.inference_mode(False):  # what is made in inference could not be used in training later
            return kept(*arguments, **named)

    return look_up


@computed_once
def grid_encoding(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Encoding of the pixel centres of a map, row by row, ``[height * width, dim]``: half for x, half for y."""
    ys = (torch.arange(height, device=device) + 0.5) / height
    xs = (torch.arange(width, device=device) + 0.5) / width
    grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)  # [height, width, 2]
    return sine_encoding(grid, dim // 2).flatten(0, 1)
