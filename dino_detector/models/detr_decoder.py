"""The DETR-like decoder: learned queries whose reference boxes are refined layer by layer.

Sources: Carion et al., "DETR", https://arxiv.org/abs/2005.12872; Zhu et al., "Deformable DETR",
https://arxiv.org/abs/2010.04159 (iterative refinement); Liu et al., "DAB-DETR", https://arxiv.org/abs/2201.12329
(queries positioned by their boxes); Zhang et al., "DINO", https://arxiv.org/abs/2203.03605 (look forward twice).
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dino_detector.config import DecoderConfig
from dino_detector.models.deformable_attention import DeformableAttention
from dino_detector.models.denoising import DenoisingQueries, DisturbedQueries
from dino_detector.models.heads import box_head, class_head, inverse_sigmoid
from dino_detector.models.position_encoding import grid_encoding, sine_encoding
from dino_detector.models.proposals import ProposalHead
from dino_detector.structures.matches import Supervised
from dino_detector.structures.targets import Targets


class DecoderOutput(NamedTuple):
    """Predictions of every layer; the last is the answer, the others help to learn.

    Attributes:
        logits: ``[L, B, Q, C]``.
        boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
        auxiliary: what exists in training only, by name: ``proposals``, ``groups``, ``denoising``.
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    auxiliary: dict[str, Supervised]


class QueryGroups(NamedTuple):
    """Consecutive queries that see those of their own group only.

    Attributes:
        count: number of groups.
        size: queries in each.
        hidden: ``[B * count, size]`` bool, queries that nobody sees; None hides none.
    """

    count: int
    size: int
    hidden: Tensor | None = None


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

    def forward(
        self,
        queries: Tensor,
        positions: Tensor,
        reference_boxes: Tensor,
        levels: list[Tensor],
        groups: list[QueryGroups],
    ) -> Tensor:
        """One layer.

        Args:
            queries: ``[B, Q, d]``.
            positions: ``[B, Q, d]``, encodings of the reference boxes.
            reference_boxes: ``[B, Q, 4]`` cxcywh in 0..1.
            levels: ``[B, d, h_l, w_l]`` each.
            groups: which of the Q queries see each other.
        """
        attended = self._attend_within(groups, queries + positions, queries)
        queries = self.norms[0](queries + self.dropout(attended))
        placed = queries + positions
        if isinstance(self.cross_attention, DeformableAttention):
            attended = self.cross_attention(placed, reference_boxes, levels)
        else:
            attended = self.cross_attention(placed, levels)
        queries = self.norms[1](queries + self.dropout(attended))
        return self.norms[2](queries + self.dropout(self.feedforward(queries)))

    def _attend_within(self, groups: list[QueryGroups], placed: Tensor, values: Tensor) -> Tensor:
        """Self-attention of each group, all ``[B, Q, d]``."""
        parts = []
        sizes = [group.count * group.size for group in groups]
        for group, keys, contents in zip(groups, placed.split(sizes, 1), values.split(sizes, 1), strict=True):
            keys, contents = (part.unflatten(1, (group.count, -1)).flatten(0, 1) for part in (keys, contents))
            attended, _ = self.self_attention(
                keys,
                keys,
                contents,
                key_padding_mask=group.hidden,
                need_weights=False,
            )
            parts.append(attended.unflatten(0, (len(placed), -1)).flatten(1, 2))
        return torch.cat(parts, dim=1)


class DetrDecoder(nn.Module):
    """Queries with learned contents, decoder layers, and a class and a box head for each.

    Queries start at learned boxes, or at those that the levels propose. In training further groups of queries (Chen et
    al., "Group DETR", https://arxiv.org/abs/2207.13085) and disturbed copies of the true boxes go through the same
    layers beside them. None of these sees another, also not copies the queries as in DN-DETR, so that no mask is
    needed; and all groups start at the same proposals, where LW-DETR has a proposal head for each.

    Args:
        config: sizes; the attention follows ``use_deformable``.
        num_classes: C, taken from the annotations.
    """

    def __init__(self, config: DecoderConfig, *, num_classes: int) -> None:
        super().__init__()
        dim, width = config.hidden_dim, config.box_head_dim
        self.num_queries = config.num_queries
        self.query_groups = config.query_groups
        self.contents = nn.Parameter(torch.empty(config.query_groups * config.num_queries, dim))
        self.proposal_head = self.initial_boxes = self.denoising = None
        if config.two_stage:
            self.proposal_head = ProposalHead(hidden_dim=dim, box_head_dim=width, num_classes=num_classes)
        else:
            spread = spread_boxes(config.num_queries).repeat(config.query_groups, 1)
            self.initial_boxes = nn.Parameter(inverse_sigmoid(spread))  # [G * Q, 4], before sigmoid
        if config.denoising_queries:
            self.denoising = DenoisingQueries(limit=config.denoising_queries, hidden_dim=dim, num_classes=num_classes)
        self.position_head = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        depth = config.decoder_layers
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(depth))
        self.class_heads = nn.ModuleList(class_head(dim, num_classes) for _ in range(depth))
        self.box_heads = nn.ModuleList(box_head(dim, width) for _ in range(depth))
        nn.init.normal_(self.contents, std=0.02)

    def forward(self, levels: list[Tensor], targets: Targets | None = None) -> DecoderOutput:
        """Detect objects.

        Args:
            levels: feature levels ``[B, d, h_l, w_l]``.
            targets: ground truth, which denoising disturbs; needed in training alone.
        """
        batch = len(levels[0])
        count = self.query_groups if self.training else 1
        contents = self.contents[: count * self.num_queries].expand(batch, -1, -1)
        auxiliary: dict[str, Supervised] = {}
        if self.proposal_head is None:
            places = self.initial_boxes[: count * self.num_queries].expand(batch, -1, -1).float()
        else:
            proposals = self.proposal_head(levels, self.num_queries)
            if self.training:
                auxiliary["proposals"] = Supervised(
                    proposals.logits[None],
                    proposals.boxes.sigmoid()[None],
                    boxes_of=partial(self.proposal_head.boxes_of, proposals),
                )
            places = proposals.places.repeat(1, count, 1)  # [B, G*K, 4], before sigmoid
            contents = contents.unflatten(1, (count, -1))[:, :, : proposals.best.shape[1]].flatten(1, 2)
        size = places.shape[1] // count
        groups = [QueryGroups(count, size)]
        disturbed: DisturbedQueries | None = None
        if self.training and self.denoising is not None and targets is not None:
            disturbed = self.denoising(targets)
            groups.append(_groups_of(disturbed))
            contents = torch.cat([contents, disturbed.contents], dim=1)
            places = torch.cat([places, inverse_sigmoid(disturbed.boxes_cxcywh)], dim=1)
        logits, boxes = self._refine(contents, places, levels, groups)
        if disturbed is not None:
            auxiliary["denoising"] = Supervised(
                logits[:, :, count * size :],
                boxes[:, :, count * size :],
                matches=disturbed.matches(len(logits)),
                counted=disturbed.counted,
            )
        if count > 1:
            others = (values[:, :, size : count * size] for values in (logits, boxes))
            apart = (values.unflatten(2, (count - 1, -1)).transpose(1, 2).flatten(0, 1) for values in others)
            auxiliary["groups"] = Supervised(*apart, copies=count - 1)
        return DecoderOutput(logits[:, :, :size], boxes[:, :, :size], auxiliary)

    def _refine(
        self, queries: Tensor, places: Tensor, levels: list[Tensor], groups: list[QueryGroups]
    ) -> tuple[Tensor, Tensor]:
        """Logits ``[L, B, Q, C]`` and boxes ``[L, B, Q, 4]`` of every layer, from contents and places of Q queries."""
        dim = queries.shape[-1]
        reference = anchor = places
        logits, boxes = [], []
        for layer, to_logits, to_change in zip(self.layers, self.class_heads, self.box_heads, strict=True):
            reference = reference.detach()
            reference_boxes = reference.sigmoid()
            positions = self.position_head(sine_encoding(reference_boxes, dim // 2))
            queries = layer(queries, positions, reference_boxes, levels, groups)
            change = to_change(queries).float()
            # The gradient of a layer's boxes reaches the previous layer's refinement too, and ends there.
            boxes.append((anchor + change).sigmoid())
            anchor = reference = reference + change
            logits.append(to_logits(queries))
        return torch.stack(logits), torch.stack(boxes)


def _groups_of(disturbed: DisturbedQueries) -> QueryGroups:
    """Padding is hidden from the others; a group of padding alone sees its first, as attention needs something."""
    hidden = ~disturbed.counted.unflatten(1, (disturbed.groups, -1)).flatten(0, 1)  # [B * R, P]
    hidden[:, 0] = False
    return QueryGroups(disturbed.groups, hidden.shape[1], hidden)


def spread_boxes(count: int) -> Tensor:
    """Boxes ``[count, 4]``, cxcywh, whose centres cover the image evenly and whose areas overlap a little.

    Source of the centres: the R2 sequence of Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences" (2018).
    """
    golden = 1.32471795724474602596
    steps = torch.tensor([1 / golden, 1 / golden**2], dtype=torch.float64)
    centres = (0.5 + steps * torch.arange(1, count + 1, dtype=torch.float64)[:, None]) % 1  # [count, 2]
    sizes = torch.full((count, 2), min(0.9, 2 / math.sqrt(count)))
    return torch.cat([centres.float(), sizes], dim=1)
