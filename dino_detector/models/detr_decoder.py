"""The DETR-like decoder: learned queries whose reference boxes are refined layer by layer.

Sources: Carion et al., "DETR", https://arxiv.org/abs/2005.12872; Zhu et al., "Deformable DETR",
https://arxiv.org/abs/2010.04159 (iterative refinement); Liu et al., "DAB-DETR", https://arxiv.org/abs/2201.12329
(queries positioned by their boxes); Zhang et al., "DINO", https://arxiv.org/abs/2203.03605 (look forward twice).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dino_detector.config import DecoderConfig
from dino_detector.models.deformable_attention import DeformableAttention
from dino_detector.models.position_encoding import grid_encoding, sine_encoding

CLASS_PRIOR = 0.01


class DecoderOutput(NamedTuple):
    """Predictions of every layer; the last is the answer, the others are auxiliary.

    Attributes:
        logits: ``[L, B, Q, C]``.
        boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
    """

    logits: Tensor
    boxes_cxcywh: Tensor


class FullAttention(nn.Module):
    """Standard attention of the queries to every position of every level, with sine encodings on the keys."""

    def __init__(self, *, hidden_dim: int, num_heads: int, num_levels: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden_dim, num_heads, dropout=dropout, batch_first=True)
        self.level_embedding = nn.Parameter(torch.zeros(num_levels, hidden_dim))

    def forward(self, queries: Tensor, levels: list[Tensor]) -> Tensor:
        """From queries ``[B, Q, d]``, positions added, and levels ``[B, d, h_l, w_l]`` to ``[B, Q, d]``."""
        values = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # [B, sum(h*w), d]
        positions = torch.cat(
            [
                grid_encoding(*level.shape[2:], level.shape[1], level.device) + embedding
                for level, embedding in zip(levels, self.level_embedding, strict=True)
            ]
        )  # [sum(h*w), d]
        keys = values + positions.to(values.dtype)
        return self.attention(queries, keys, values, need_weights=False)[0]


class DecoderLayer(nn.Module):
    """Self-attention among the queries, attention to the image, feed-forward network; each with a post-norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim, heads, levels = config.hidden_dim, config.num_heads, len(config.feature_scales)
        dropout = config.decoder_dropout
        self.self_attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.cross_attention = (
            DeformableAttention(hidden_dim=dim, num_heads=heads, num_levels=levels, num_points=config.n_points)
            if config.use_deformable
            else FullAttention(hidden_dim=dim, num_heads=heads, num_levels=levels, dropout=dropout)
        )
        self.feedforward = nn.Sequential(
            nn.Linear(dim, config.feedforward_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(config.feedforward_dim, dim),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, positions: Tensor, reference_boxes: Tensor, levels: list[Tensor]) -> Tensor:
        """One layer.

        Args:
            queries: ``[B, Q, d]``.
            positions: ``[B, Q, d]``, encodings of the reference boxes.
            reference_boxes: ``[B, Q, 4]`` cxcywh in 0..1.
            levels: ``[B, d, h_l, w_l]`` each.
        """
        placed = queries + positions
        attended = self.self_attention(placed, placed, queries, need_weights=False)[0]
        queries = self.norms[0](queries + self.dropout(attended))
        placed = queries + positions
        if isinstance(self.cross_attention, DeformableAttention):
            attended = self.cross_attention(placed, reference_boxes, levels)
        else:
            attended = self.cross_attention(placed, levels)
        queries = self.norms[1](queries + self.dropout(attended))
        return self.norms[2](queries + self.dropout(self.feedforward(queries)))


class DetrDecoder(nn.Module):
    """Queries with learned contents and learned initial boxes, decoder layers, and a class and a box head for each.

    Args:
        config: sizes; the attention follows ``use_deformable``.
        num_classes: C, taken from the annotations.
    """

    def __init__(self, config: DecoderConfig, *, num_classes: int) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.contents = nn.Parameter(torch.empty(config.num_queries, dim))
        self.initial_boxes = nn.Parameter(inverse_sigmoid(spread_boxes(config.num_queries)))  # [Q, 4], before sigmoid
        self.position_head = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        depth = config.decoder_layers
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(depth))
        self.class_heads = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(depth))
        self.box_heads = nn.ModuleList(_box_head(dim, config.box_head_dim) for _ in range(depth))
        nn.init.normal_(self.contents, std=0.02)
        for head in self.class_heads:
            nn.init.constant_(head.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def forward(self, levels: list[Tensor]) -> DecoderOutput:
        """Detect objects in feature levels ``[B, d, h_l, w_l]``."""
        batch = len(levels[0])
        dim = self.contents.shape[1]
        queries = self.contents.expand(batch, -1, -1)
        reference = anchor = self.initial_boxes.expand(batch, -1, -1).float()  # [B, Q, 4], before sigmoid
        logits, boxes = [], []
        for layer, class_head, box_head in zip(self.layers, self.class_heads, self.box_heads, strict=True):
            reference = reference.detach()
            reference_boxes = reference.sigmoid()
            positions = self.position_head(sine_encoding(reference_boxes, dim // 2))
            queries = layer(queries, positions, reference_boxes, levels)
            delta = box_head(queries).float()
            # The gradient of a layer's boxes reaches the previous layer's refinement too, and ends there.
            boxes.append((anchor + delta).sigmoid())
            anchor = reference = reference + delta
            logits.append(class_head(queries))
        return DecoderOutput(torch.stack(logits), torch.stack(boxes))


def inverse_sigmoid(values: Tensor) -> Tensor:
    """Logits of values in 0..1, which are kept 1e-5 away from both ends."""
    return torch.logit(values, eps=1e-5)


def spread_boxes(count: int) -> Tensor:
    """Boxes ``[count, 4]``, cxcywh, whose centres cover the image evenly and whose areas overlap a little.

    Source of the centres: the R2 sequence of Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences" (2018).
    """
    golden = 1.32471795724474602596
    steps = torch.tensor([1 / golden, 1 / golden**2], dtype=torch.float64)
    centres = (0.5 + steps * torch.arange(1, count + 1, dtype=torch.float64)[:, None]) % 1  # [count, 2]
    sizes = torch.full((count, 2), min(0.9, 2 / math.sqrt(count)))
    return torch.cat([centres.float(), sizes], dim=1)


def _box_head(dim: int, width: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
    nn.init.zeros_(head[-1].weight)
    nn.init.zeros_(head[-1].bias)
    return head
