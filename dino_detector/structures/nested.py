"""Tensors in nested mappings and sequences."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield every tensor of a value: a tensor, or a dict, list or tuple of such values."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)
