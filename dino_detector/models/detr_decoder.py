"""The DETR decoder: learned queries whose reference points, 4-D boxes, are refined layer by layer.

Sources: Carion et al., "DETR", https://arxiv.org/abs/2005.12872; Zhu et al., "Deformable DETR",
https://arxiv.org/abs/2010.04159 (iterative refinement); Liu et al., "DAB-DETR", https://arxiv.org/abs/2201.12329
(query positions are encoded boxes); Zhang et al., "DINO", https://arxiv.org/abs/2203.03605 (look forward twice).
`dino_detector.structures.targets` explains the symbols of shapes.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dino_detector.config import DecoderConfig
from dino_detector.models.deformable_attention import DeformableAttention
from dino_detector.models.denoising import DenoisingGenerator, DenoisingQueries
from dino_detector.models.heads import ClassHead, box_head, inverse_sigmoid
from dino_detector.models.position_encoding import grid_encoding, sine_encoding
from dino_detector.models.proposals import ProposalHead
from dino_detector.structures.predictions import AuxiliaryOutput, DecoderOutput
from dino_detector.structures.targets import Targets


class QueryGroups(NamedTuple):
    """Groups of consecutive queries; a query attends to the queries of its own group.

    Attributes:
        count: number of groups.
        size: queries in each group.
        key_padding_mask: ``[B * count, size]`` bool, true for padding, which no query attends to; None: no padding.
    """

    count: int
    size: int
    key_padding_mask: Tensor | None = None


class FullAttention(nn.Module):
    """Attention of the queries to every position of every level, with sine encodings on the keys, as in DETR."""

    def __init__(self, *, hidden_dim: int, num_heads: int, num_levels: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden_dim, num_heads, dropout=dropout, batch_first=True)
        self.level_embedding = nn.Parameter(torch.zeros(num_levels, hidden_dim))

    def forward(self, queries: Tensor, _reference_points: Tensor, levels: list[Tensor]) -> Tensor:
        """Attend from queries ``[B, Q, d]``, which include their positions, to levels ``[B, d, h_l, w_l]``."""
        values = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # [B, S, d]
        positions = torch.cat(
            [
                grid_encoding(*level.shape[2:], level.shape[1], level.device) + embedding
                for level, embedding in zip(levels, self.level_embedding, strict=True)
            ]
        )  # [S, d]
        keys = values + positions.to(values.dtype)
        return self.attention(queries, keys, values, need_weights=False)[0]


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the levels, and a feed-forward network, each with a post-norm."""

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
        query_pos: Tensor,
        reference_points: Tensor,
        levels: list[Tensor],
        groups: list[QueryGroups],
    ) -> Tensor:
        """Return the queries after this layer, ``[B, Q, d]``.

        Args:
            queries: ``[B, Q, d]``.
            query_pos: ``[B, Q, d]``, encodings of the reference points.
            reference_points: ``[B, Q, 4]``, boxes cxcywh in 0..1.
            levels: ``[B, d, h_l, w_l]`` each.
            groups: groups of the Q queries for self-attention.
        """
        attended = self._self_attend(queries + query_pos, queries, groups)
        queries = self.norms[0](queries + self.dropout(attended))
        attended = self.cross_attention(queries + query_pos, reference_points, levels)
        queries = self.norms[1](queries + self.dropout(attended))
        return self.norms[2](queries + self.dropout(self.feedforward(queries)))

    def _self_attend(self, keys: Tensor, values: Tensor, groups: list[QueryGroups]) -> Tensor:
        """Attend within each group; keys, which are also the queries, values and output are ``[B, Q, d]``."""
        outputs = []
        sizes = [group.count * group.size for group in groups]
        for group, *inputs in zip(groups, keys.split(sizes, 1), values.split(sizes, 1), strict=True):
            group_keys, group_values = (each.unflatten(1, (group.count, -1)).flatten(0, 1) for each in inputs)
            attended, _ = self.self_attention(
                group_keys, group_keys, group_values, key_padding_mask=group.key_padding_mask, need_weights=False
            )
            outputs.append(attended.unflatten(0, (len(keys), -1)).flatten(1, 2))
        return torch.cat(outputs, dim=1)


class DetrDecoder(nn.Module):
    """Queries with learned contents, decoder layers, and a class head and a box head for each layer.

    Queries start at learned boxes, or at proposals of the levels. In training, further groups of queries (Chen et al.,
    "Group DETR", https://arxiv.org/abs/2207.13085) and denoising queries go through the same layers. Each group
    attends to itself alone, so self-attention needs no mask between groups; in DN-DETR denoising queries also see the
    object queries. All groups start at the same proposals; LW-DETR has a proposal head for each group.
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
            self.denoising = DenoisingGenerator(
                max_queries=config.denoising_queries, hidden_dim=dim, num_classes=num_classes
            )
        self.position_head = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        depth = config.decoder_layers
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(depth))
        self.class_heads = nn.ModuleList(ClassHead(dim, num_classes) for _ in range(depth))
        self.box_heads = nn.ModuleList(box_head(dim, width) for _ in range(depth))
        nn.init.normal_(self.contents, std=0.02)

    def forward(self, levels: list[Tensor], targets: Targets | None = None) -> DecoderOutput:
        """Predict classes and boxes.

        Args:
            levels: feature levels ``[B, d, h_l, w_l]``.
            targets: ground truth for the denoising queries; only training uses it.
        """
        num_groups = self.query_groups if self.training else 1
        contents, reference_logits, auxiliary = self._object_queries(levels, num_groups)
        size = reference_logits.shape[1] // num_groups
        groups = [QueryGroups(num_groups, size)]
        denoising: DenoisingQueries | None = None
        if self.training and self.denoising is not None and targets is not None:
            denoising = self.denoising(targets)
            groups.append(_denoising_groups(denoising))
            contents = torch.cat([contents, denoising.contents], dim=1)
            reference_logits = torch.cat([reference_logits, inverse_sigmoid(denoising.boxes_cxcywh)], dim=1)
        logits, boxes = self._refine(contents, reference_logits, levels, groups)
        if denoising is not None:
            auxiliary["denoising"] = AuxiliaryOutput(
                logits[:, :, num_groups * size :],
                boxes[:, :, num_groups * size :],
                indices=denoising.matched_indices(len(logits)),
                query_mask=denoising.query_mask,
            )
        if num_groups > 1:
            further = (each[:, :, size : num_groups * size] for each in (logits, boxes))  # [L, B, (G-1)*Q, ...]
            stacked = (each.unflatten(2, (num_groups - 1, -1)).transpose(1, 2).flatten(0, 1) for each in further)
            auxiliary["groups"] = AuxiliaryOutput(*stacked, num_groups=num_groups - 1)
        return DecoderOutput(logits[:, :, :size], boxes[:, :, :size], auxiliary)

    def _object_queries(
        self, levels: list[Tensor], num_groups: int
    ) -> tuple[Tensor, Tensor, dict[str, AuxiliaryOutput]]:
        """Return contents ``[B, G*Q, d]``, reference points before the sigmoid ``[B, G*Q, 4]``, and the proposals."""
        count = num_groups * self.num_queries
        contents = self.contents[:count].expand(len(levels[0]), -1, -1)
        if self.proposal_head is None:
            return contents, self.initial_boxes[:count].expand(len(levels[0]), -1, -1).float(), {}
        proposals = self.proposal_head(levels, self.num_queries)
        # Small maps have fewer positions than queries: each group leaves out its last queries.
        contents = contents.unflatten(1, (num_groups, -1))[:, :, : proposals.top.shape[1]].flatten(1, 2)
        auxiliary = {}
        if self.training:
            auxiliary["proposals"] = AuxiliaryOutput(
                proposals.logits[None],
                proposals.box_logits.sigmoid()[None],
                decode_boxes=partial(self.proposal_head.decode_boxes, proposals),
            )
        return contents, proposals.reference_logits.repeat(1, num_groups, 1), auxiliary

    def _refine(
        self, queries: Tensor, reference_logits: Tensor, levels: list[Tensor], groups: list[QueryGroups]
    ) -> tuple[Tensor, Tensor]:
        """Refine the reference points layer by layer.

        Returns:
            Logits ``[L, B, Q, C]`` and boxes ``[L, B, Q, 4]`` of every layer.
        """
        dim = queries.shape[-1]
        previous = reference_logits
        logits, boxes = [], []
        for layer, classify, regress in zip(self.layers, self.class_heads, self.box_heads, strict=True):
            reference_logits = previous.detach()
            reference_points = reference_logits.sigmoid()
            query_pos = self.position_head(sine_encoding(reference_points, dim // 2))
            queries = layer(queries, query_pos, reference_points, levels, groups)
            change = regress(queries).float()
            # Look forward twice: the loss of these boxes also trains the change of the previous layer, and no earlier.
            boxes.append((previous + change).sigmoid())
            previous = reference_logits + change
            logits.append(classify(queries))
        return torch.stack(logits), torch.stack(boxes)


def _denoising_groups(denoising: DenoisingQueries) -> QueryGroups:
    """Mask padding in self-attention, except the first query of each group: attention needs at least one key."""
    padding = ~denoising.query_mask.unflatten(1, (denoising.num_groups, -1)).flatten(0, 1)
    padding[:, 0] = False
    return QueryGroups(denoising.num_groups, padding.shape[1], padding)


def spread_boxes(count: int) -> Tensor:
    """Return boxes ``[count, 4]`` cxcywh that cover the image evenly and overlap a little.

    Source of the centres: the R2 sequence of Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences" (2018).
    """
    golden = 1.32471795724474602596
    steps = torch.tensor([1 / golden, 1 / golden**2], dtype=torch.float64)
    centres = (0.5 + steps * torch.arange(1, count + 1, dtype=torch.float64)[:, None]) % 1  # [count, 2]
    sizes = torch.full((count, 2), min(0.9, 2 / math.sqrt(count)))
    return torch.cat([centres.float(), sizes], dim=1)
