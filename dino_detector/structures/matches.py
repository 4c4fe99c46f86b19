"""What a step predicts beside its answer, and which prediction stands for which box."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Matches(NamedTuple):
    """The M matched pairs of all layers and images, as four aligned index vectors.

    Every real box of a layer and image occurs once as long as there are queries for it: layer l and image b have
    ``min(Q, N_b)`` pairs. ``logits[layer, image, query]`` belongs to ``labels[image, target]``.

    Attributes:
        layer: ``[M]`` int64, in ``0..L-1``.
        image: ``[M]`` int64, in ``0..B-1``.
        query: ``[M]`` int64, in ``0..Q-1``, unique within its layer and image.
        target: ``[M]`` int64, in ``0..T-1``, unique within its layer and image.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor


class Supervised(NamedTuple):
    """Predictions that exist to be learned from, and are no answer.

    Attributes:
        logits: ``[L, B, Q, C]``; L counts layers, or layers of several groups.
        boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
        boxes_of: makes the boxes of M queries ``[M, 4]`` again, with gradient, from their images and their numbers,
            ``[M]`` int64 each, where ``boxes_cxcywh`` has none; None where it has.
        copies: how often every box is to be found where matches are to be found, each time in decoder layers of its
            own; the losses are divided by it.
        matches: the pairs where they are known, the same in each layer; the losses are divided by their number in one.
        counted: ``[B, Q]`` bool, the queries that have a loss; None counts all.
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    boxes_of: Callable[[Tensor, Tensor], Tensor] | None = None
    copies: int = 1
    matches: Matches | None = None
    counted: Tensor | None = None
