"""Where objects may be, proposed by the feature levels themselves: the starting places of the queries.

Every position learns, not only those that become queries: matched one to one like the queries, so that the best
positions are different objects, but from the first step on over the whole image.

Sources: Zhu et al., "Deformable DETR", https://arxiv.org/abs/2010.04159, section 4.2 (two-stage); Zhang et al., "DINO",
https://arxiv.org/abs/2203.03605, section 3.4 (only the places of queries come from the proposals, their contents are
learned).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dino_detector.models.heads import box_head, class_head, inverse_sigmoid
from dino_detector.models.position_encoding import computed_once

ANCHOR_CELLS = 3.0
"""Side of the box that a position starts from, in cells of its level."""


class Proposals(NamedTuple):
    """What all S positions propose, level by level and row by row, and which of them are best.

    Attributes:
        logits: ``[B, S, C]``.
        tokens: ``[B, S, d]``, of which logits and boxes are made.
        anchors: ``[S, 4]``, what the boxes are a change of, before the sigmoid.
        boxes: ``[B, S, 4]``, cxcywh before the sigmoid, without gradient; None in inference, which needs those of the
            best alone.
        best: ``[B, K]`` int64, positions by falling score.
        places: ``[B, K, 4]``, the boxes of these, without gradient.
    """

    logits: Tensor
    tokens: Tensor
    anchors: Tensor
    boxes: Tensor | None
    best: Tensor
    places: Tensor


class ProposalHead(nn.Module):
    """Every position of every level says what is there and where it lies.

    Args:
        hidden_dim: width d of the levels.
        box_head_dim: width of the box head.
        num_classes: C.
    """

    def __init__(self, *, hidden_dim: int, box_head_dim: int, num_classes: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.LayerNorm(hidden_dim))
        self.class_head = class_head(hidden_dim, num_classes)
        self.box_head = box_head(hidden_dim, box_head_dim)

    def forward(self, levels: list[Tensor], count: int) -> Proposals:
        """Propose; best are the ``count`` positions with the highest score of any class, or all where there are fewer.

        Args:
            levels: ``[B, d, h_l, w_l]`` each.
            count: K.
        """
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # [B, S, d]
        tokens = self.projection(tokens)
        logits = self.class_head(tokens)
        best = logits.detach().amax(-1).topk(min(count, logits.shape[1]), dim=1).indices  # [B, K]
        anchors = anchors_before_sigmoid(tuple(tuple(level.shape[2:]) for level in levels), tokens.device)  # [S, 4]
        with torch.no_grad():
            if self.training:
                boxes = anchors + self.box_head(tokens).float()
                places = boxes.gather(1, best[..., None].expand(-1, -1, 4))
            else:
                boxes = None
                chosen = tokens.gather(1, best[..., None].expand(-1, -1, tokens.shape[2]))  # [B, K, d]
                places = anchors[best] + self.box_head(chosen).float()
        return Proposals(logits, tokens, anchors, boxes, best, places)

    def boxes_of(self, proposals: Proposals, images: Tensor, positions: Tensor) -> Tensor:
        """Boxes of M positions with gradient, ``[M, 4]`` cxcywh in 0..1, from images and positions ``[M]`` int64.

        A loss has gradients for the boxes of the few positions that stand for an object; those of all, thousands, are
        made without.
        """
        with torch.autocast(images.device.type, enabled=False):  # wherever the loss is computed, and it is little work
            chosen = proposals.tokens[images, positions].to(self.box_head[0].weight.dtype)  # [M, d]
            return (proposals.anchors[positions] + self.box_head(chosen)).sigmoid()


@computed_once
def anchors_before_sigmoid(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """The anchors of levels of several sizes, height first, ``[S, 4]`` cxcywh before the sigmoid."""
    return inverse_sigmoid(torch.cat([anchor_boxes(*size, device) for size in sizes]))


def anchor_boxes(height: int, width: int, device: torch.device) -> Tensor:
    """A box around the centre of every cell of a map, row by row, ``[height * width, 4]`` cxcywh in 0..1."""
    ys = (torch.arange(height, device=device) + 0.5) / height
    xs = (torch.arange(width, device=device) + 0.5) / width
    centres = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1).flatten(0, 1)
    sizes = [torch.full_like(xs[:1], min(0.9, ANCHOR_CELLS / cells)) for cells in (width, height)]  # filled there, as a
    # copy from the host would wait for the device
    return torch.cat([centres, torch.cat(sizes).expand_as(centres)], dim=1)
