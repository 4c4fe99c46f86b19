"""Two-stage proposals: the boxes that the feature levels predict, at which the queries start.

The proposals of all positions are matched one to one and trained, and the positions with the highest scores become
the reference points of the queries. Only the boxes of queries come from proposals; their contents are learned.

Sources: Zhu et al., "Deformable DETR", https://arxiv.org/abs/2010.04159, section 4.2 (two-stage); Zhang et al., "DINO",
https://arxiv.org/abs/2203.03605, section 3.4 (mixed query selection).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dino_detector.models.heads import ClassHead, box_head, inverse_sigmoid
from dino_detector.models.position_encoding import cached_table, cell_centres

ANCHOR_CELLS = 3.0
"""side of the anchor box of a position, in cells of its level"""


class Proposals(NamedTuple):
    """Proposals of all S positions, level by level and row by row, and the K best.

    Attributes:
        logits: ``[B, S, C]``.
        tokens: ``[B, S, d]``, input of the heads.
        anchor_logits: ``[S, 4]``, anchor boxes cxcywh before the sigmoid; the box head predicts a change of them.
        box_logits: ``[B, S, 4]``, boxes cxcywh before the sigmoid, without gradient; None in evaluation mode.
        top: ``[B, K]`` int64, positions by descending score.
        reference_logits: ``[B, K, 4]``, boxes cxcywh of these positions before the sigmoid, without gradient.
    """

    logits: Tensor
    tokens: Tensor
    anchor_logits: Tensor
    box_logits: Tensor | None
    top: Tensor
    reference_logits: Tensor


class ProposalHead(nn.Module):
    """Predicts C classes and a box at every position of every level of width d."""

    def __init__(self, *, hidden_dim: int, box_head_dim: int, num_classes: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.LayerNorm(hidden_dim))
        self.class_head = ClassHead(hidden_dim, num_classes)
        self.box_head = box_head(hidden_dim, box_head_dim)

    def forward(self, levels: list[Tensor], count: int) -> Proposals:
        """Propose boxes, and select the ``count`` positions whose best class has the highest score.

        Args:
            levels: ``[B, d, h_l, w_l]`` each.
            count: number of positions to select; all are selected if there are fewer.
        """
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # [B, S, d]
        tokens = self.projection(tokens)
        logits = self.class_head(tokens)
        top = logits.detach().amax(-1).topk(min(count, logits.shape[1]), dim=1).indices  # [B, K]
        anchor_logits = anchors_before_sigmoid(tuple(tuple(level.shape[2:]) for level in levels), tokens.device)
        with torch.no_grad():
            if self.training:
                box_logits = anchor_logits + self.box_head(tokens).float()
                reference_logits = box_logits.gather(1, top[..., None].expand(-1, -1, 4))
            else:  # only the selected positions need boxes
                box_logits = None
                selected = tokens.gather(1, top[..., None].expand(-1, -1, tokens.shape[2]))  # [B, K, d]
                reference_logits = anchor_logits[top] + self.box_head(selected).float()
        return Proposals(logits, tokens, anchor_logits, box_logits, top, reference_logits)

    def decode_boxes(self, proposals: Proposals, batch: Tensor, position: Tensor) -> Tensor:
        """Return the boxes of M positions with gradient, ``[M, 4]`` cxcywh in 0..1.

        Only matched positions, few of thousands, have a box loss; the boxes of all positions need no graph.

        Args:
            proposals: of the same batch.
            batch: ``[M]`` int64, image of each position.
            position: ``[M]`` int64, in 0..S-1.
        """
        with torch.autocast(batch.device.type, enabled=False):
            tokens = proposals.tokens[batch, position].to(self.box_head[0].weight.dtype)  # [M, d]
            return (proposals.anchor_logits[position] + self.box_head(tokens)).sigmoid()


@cached_table
def anchors_before_sigmoid(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Return the anchors of levels of several sizes (height, width), ``[S, 4]`` cxcywh before the sigmoid."""
    return inverse_sigmoid(torch.cat([anchor_boxes(*size, device) for size in sizes]))


def anchor_boxes(height: int, width: int, device: torch.device) -> Tensor:
    """Return a box around each cell centre of a map, row by row, ``[height * width, 4]`` cxcywh in 0..1."""
    centres = cell_centres(height, width, device)
    # Fill the sizes on the device: a copy from the host would wait for it.
    sizes = [torch.full_like(centres[:1, 0], min(0.9, ANCHOR_CELLS / cells)) for cells in (width, height)]
    return torch.cat([centres, torch.cat(sizes).expand_as(centres)], dim=1)
