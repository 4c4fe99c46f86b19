"""Queries that start at disturbed true boxes: in training they show the decoder what to restore and what to reject.

Sources: Li et al., "DN-DETR", https://arxiv.org/abs/2203.01305; Zhang et al., "DINO", https://arxiv.org/abs/2203.03605,
section 3.3 (contrastive: near copies of a box are to be restored, far ones are no object).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dino_detector.structures.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from dino_detector.structures.matches import Matches
from dino_detector.structures.targets import Targets

LABEL_NOISE = 0.25
"""Chance that a query is told a class drawn at random."""
BOX_NOISE = 1.0
"""Corners of a near copy move by up to so many halves of the box's side, those of a far copy by up to twice as many."""


class DisturbedQueries(NamedTuple):
    """R groups of P = 2 * N queries for each image: N near copies of boxes, then N far ones of the same boxes.

    Attributes:
        contents: ``[B, R * P, d]``.
        boxes_cxcywh: ``[B, R * P, 4]`` in 0..1.
        counted: ``[B, R * P]`` bool, the queries that stand for a box; the others are padding.
        targets: ``[B, R * P]`` int64, which box of the image, also for far copies.
        near: ``[R * P]`` bool.
        groups: R.
    """

    contents: Tensor
    boxes_cxcywh: Tensor
    counted: Tensor
    targets: Tensor
    near: Tensor
    groups: int

    def matches(self, layers: int) -> Matches:
        """The pairs of near copies and boxes, the same in every layer."""
        image, query = (self.counted & self.near).nonzero(as_tuple=True)  # [M]
        count = len(image)
        layer = torch.arange(layers, device=image.device).repeat_interleave(count)
        return Matches(layer, image.repeat(layers), query.repeat(layers), self.targets[image, query].repeat(layers))


class DenoisingQueries(nn.Module):
    """Makes the queries of a batch.

    Args:
        limit: most queries of an image; as many groups as fit, and where one does not fit some of the boxes.
        hidden_dim: width d.
        num_classes: C.
    """

    def __init__(self, *, limit: int, hidden_dim: int, num_classes: int) -> None:
        super().__init__()
        self.limit = limit
        self.num_classes = num_classes
        self.label_embedding = nn.Embedding(num_classes, hidden_dim)

    def num_queries(self, boxes: int) -> int:
        """Queries of every image of a batch whose fullest image has so many boxes; not always more with more boxes."""
        copied = min(max(1, boxes), self.limit // 2)
        return 2 * copied * max(1, self.limit // (2 * copied))

    def forward(self, targets: Targets) -> DisturbedQueries:
        """Disturb the boxes and the labels of a batch, at random."""
        chosen = self._choose(targets)  # [B, N]
        groups = self.num_queries(targets.valid.shape[1]) // (2 * chosen.shape[1])
        chosen = chosen.repeat(1, 2 * groups)  # [B, R*P]
        near = torch.arange(chosen.shape[1], device=chosen.device) // (chosen.shape[1] // (2 * groups)) % 2 == 0
        labels, counted = (padded(column).gather(1, chosen) for column in (targets.labels, targets.valid))
        boxes = padded(targets.boxes_cxcywh).take_along_dim(chosen[..., None], dim=1)
        drawn = torch.randint_like(labels, self.num_classes)
        labels = torch.where(torch.rand(labels.shape, device=labels.device) < LABEL_NOISE, drawn, labels)
        return DisturbedQueries(
            contents=self.label_embedding(labels),
            boxes_cxcywh=disturbed(boxes, near),
            counted=counted,
            targets=chosen,
            near=near,
            groups=groups,
        )

    def _choose(self, targets: Targets) -> Tensor:
        """Which boxes of each image get queries, ``[B, N]``: all, or some at random; at least one, maybe padding."""
        batch, most = targets.valid.shape
        fitting = min(max(1, most), self.limit // 2)
        if fitting >= most:
            return torch.arange(fitting, device=targets.valid.device).expand(batch, -1)
        return (targets.valid + torch.rand(targets.valid.shape, device=targets.valid.device)).topk(fitting).indices


def padded(column: Tensor) -> Tensor:
    """A column of targets ``[B, T, ...]`` with a row of padding where it has none, so that T is at least 1."""
    return column if column.shape[1] else column.new_zeros(len(column), 1, *column.shape[2:])


def disturbed(boxes_cxcywh: Tensor, near: Tensor) -> Tensor:
    """Move the corners of boxes ``[B, R*P, 4]`` at random; they stay within the image and keep some extent.

    Far copies must not be the true box again. So a far corner that would leave the image, where it would be put back to
    its border, moves into the box instead. And far corners that pass each other are a box of almost no extent, and not
    one with its corners exchanged. (The authors' code has both cases.)
    """
    sides = boxes_cxcywh[..., 2:].repeat(1, 1, 2) / 2
    parts = torch.rand_like(boxes_cxcywh) + torch.where(near, 0.0, 1.0)[:, None]
    signs = torch.randint_like(boxes_cxcywh, 2) * 2 - 1
    corners, moves = cxcywh_to_xyxy(boxes_cxcywh), signs * parts * sides * BOX_NOISE
    leaves = (corners + moves < 0) | (corners + moves > 1)
    moves = torch.where(leaves & ~near[:, None], -moves, moves)
    moved = xyxy_to_cxcywh((corners + moves).clamp(0, 1))
    return torch.cat([moved[..., :2], moved[..., 2:].clamp(min=1e-3)], dim=-1)
