"""Contrastive denoising queries: in training, queries that start at noised ground truth boxes.

Sources: Li et al., "DN-DETR", https://arxiv.org/abs/2203.01305; Zhang et al., "DINO", https://arxiv.org/abs/2203.03605,
section 3.3: positive queries restore their box, negative queries, with more noise, learn to predict no object.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets

LABEL_NOISE = 0.25
"""probability that a random class replaces the class of a query"""
BOX_NOISE = 1.0
"""largest move of a corner of a positive box, in half sides of the box; corners of negative boxes move twice as far"""


class DenoisingQueries(NamedTuple):
    """Denoising queries of a batch: groups of 2K queries, K positive ones and then K negative ones of the same boxes.

    Attributes:
        contents: ``[B, Q, d]``, embeddings of the noised labels.
        boxes_cxcywh: ``[B, Q, 4]`` in 0..1, noised.
        query_mask: ``[B, Q]`` bool, false for padding.
        target: ``[B, Q]`` int64, index of the box that a query is a copy of, in 0..T-1.
        positive: ``[Q]`` bool.
        num_groups: number of groups.
    """

    contents: Tensor
    boxes_cxcywh: Tensor
    query_mask: Tensor
    target: Tensor
    positive: Tensor
    num_groups: int

    def matched_indices(self, num_layers: int) -> MatchedIndices:
        """Return the pairs of positive queries and their boxes, the same in every layer."""
        batch, query = (self.query_mask & self.positive).nonzero(as_tuple=True)  # [M / L]
        layer = torch.arange(num_layers, device=batch.device).repeat_interleave(len(batch))
        repeated = (column.repeat(num_layers) for column in (batch, query, self.target[batch, query]))
        return MatchedIndices(layer, *repeated)


class DenoisingGenerator(nn.Module):
    """Makes the denoising queries of a batch.

    Args:
        max_queries: largest number of queries per image. A batch gets as many groups as fit; if not even one group of
            all boxes fits, a random subset of the boxes gets queries.
        hidden_dim: d.
        num_classes: C.
    """

    def __init__(self, *, max_queries: int, hidden_dim: int, num_classes: int) -> None:
        super().__init__()
        self.max_queries = max_queries
        self.num_classes = num_classes
        self.label_embedding = nn.Embedding(num_classes, hidden_dim)

    def num_queries(self, boxes: int) -> int:
        """Return the queries of each image in a batch with T = ``boxes``; more boxes may have fewer queries."""
        copied = min(max(1, boxes), self.max_queries // 2)
        return 2 * copied * max(1, self.max_queries // (2 * copied))

    def forward(self, targets: Targets) -> DenoisingQueries:
        """Add noise to the boxes and the labels of a batch."""
        selected = self._select(targets)  # [B, K]
        copied = selected.shape[1]
        num_groups = self.num_queries(targets.valid.shape[1]) // (2 * copied)
        target = selected.repeat(1, 2 * num_groups)  # [B, Q]
        positive = torch.arange(target.shape[1], device=target.device) // copied % 2 == 0
        labels, query_mask = (_at_least_one(column).gather(1, target) for column in (targets.labels, targets.valid))
        boxes = _at_least_one(targets.boxes_cxcywh).take_along_dim(target[..., None], dim=1)
        random_labels = torch.randint_like(labels, self.num_classes)
        labels = torch.where(torch.rand(labels.shape, device=labels.device) < LABEL_NOISE, random_labels, labels)
        return DenoisingQueries(
            contents=self.label_embedding(labels),
            boxes_cxcywh=add_box_noise(boxes, positive),
            query_mask=query_mask,
            target=target,
            positive=positive,
            num_groups=num_groups,
        )

    def _select(self, targets: Targets) -> Tensor:
        """Return indices ``[B, K]`` of the boxes that get queries, K >= 1: all boxes, or a random part of them."""
        batch, most = targets.valid.shape
        fitting = min(max(1, most), self.max_queries // 2)
        if fitting >= most:
            return torch.arange(fitting, device=targets.valid.device).expand(batch, -1)
        return (targets.valid + torch.rand(targets.valid.shape, device=targets.valid.device)).topk(fitting).indices


def _at_least_one(column: Tensor) -> Tensor:
    """Return a column of targets ``[B, T, ...]``, with a row of padding if T is 0."""
    return column if column.shape[1] else column.new_zeros(len(column), 1, *column.shape[2:])


def add_box_noise(boxes_cxcywh: Tensor, positive: Tensor) -> Tensor:
    """Move the corners of boxes ``[B, Q, 4]`` at random; boxes stay inside the image and keep some extent.

    A negative box must not equal its true box. A corner that would leave the image moves into the box instead, because
    clamping could put it back on the true box. Corners that pass each other give a box of almost no extent, because
    swapping them could give the true box. (The authors' code clamps and swaps.)
    """
    half_sides = boxes_cxcywh[..., 2:].repeat(1, 1, 2) / 2
    parts = torch.rand_like(boxes_cxcywh) + torch.where(positive, 0.0, 1.0)[:, None]
    signs = torch.randint_like(boxes_cxcywh, 2) * 2 - 1
    corners, moves = box_convert(boxes_cxcywh, "cxcywh", "xyxy"), signs * parts * half_sides * BOX_NOISE
    leaves = (corners + moves < 0) | (corners + moves > 1)
    moves = torch.where(leaves & ~positive[:, None], -moves, moves)
    noised = box_convert((corners + moves).clamp(0, 1), "xyxy", "cxcywh")
    return torch.cat([noised[..., :2], noised[..., 2:].clamp(min=1e-3)], dim=-1)
