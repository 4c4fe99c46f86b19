"""Predictions of the decoder, and the matched indices of queries and targets.

`dino_detector.structures.targets` explains the symbols of shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class MatchedIndices(NamedTuple):
    """M matched pairs of a query and a target in all layers and images.

    Attributes:
        layer: ``[M]`` int64, in 0..L-1.
        batch: ``[M]`` int64, image of the batch, in 0..B-1.
        query: ``[M]`` int64, in 0..Q-1, unique within a layer and image.
        target: ``[M]`` int64, in 0..T-1, unique within a layer and image, except where several denoising queries
            restore the same box.
    """

    layer: Tensor
    batch: Tensor
    query: Tensor
    target: Tensor

    @property
    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the index of the matched queries in predictions ``[L, B, Q, ...]``."""
        return self.layer, self.batch, self.query

    @property
    def targets(self) -> tuple[Tensor, Tensor]:
        """Return the index of the matched targets in ground truth ``[B, T, ...]``."""
        return self.batch, self.target


class AuxiliaryOutput(NamedTuple):
    """Predictions that only the training loss uses.

    Attributes:
        logits: ``[L, B, Q, C]``; with several groups of queries the groups are stacked along L.
        boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
        decode_boxes: recomputes the boxes ``[M, 4]`` of M queries with gradient, from their image and query indices
            ``[M]``; None if ``boxes_cxcywh`` has a gradient.
        num_groups: groups of queries along L; the loss is their mean.
        indices: matched indices, the same pairs in every layer; None has the matcher find them.
        query_mask: ``[B, Q]`` bool, queries that have a classification loss; None means all.
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    decode_boxes: Callable[[Tensor, Tensor], Tensor] | None = None
    num_groups: int = 1
    indices: MatchedIndices | None = None
    query_mask: Tensor | None = None

    def matched_boxes(self, indices: MatchedIndices) -> Tensor:
        """Return the boxes of the matched queries, ``[M, 4]``, with gradient."""
        if self.decode_boxes is None:
            return self.boxes_cxcywh[indices.predictions]
        return self.decode_boxes(indices.batch, indices.query)


class DecoderOutput(NamedTuple):
    """Predictions of every decoder layer. The last layer detects; the others have a loss of their own in training.

    Attributes:
        logits: ``[L, B, Q, C]``, before the sigmoid; there is no background class.
        boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
        auxiliary: outputs by name, only in training: ``proposals``, ``denoising`` and ``groups``, if turned on.
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    auxiliary: dict[str, AuxiliaryOutput]
