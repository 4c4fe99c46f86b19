"""Multi-scale deformable attention in plain PyTorch.

Source: Zhu et al., "Deformable DETR", https://arxiv.org/abs/2010.04159, section 4; reference points are boxes, and
offsets are relative to their size, as in section A.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DeformableAttention(nn.Module):
    """Samples a few points around the reference box of each query from every feature level.

    Every head has ``num_points`` points of its own in each level. The width d is a multiple of ``num_heads``.
    """

    def __init__(self, *, hidden_dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.offsets = nn.Linear(hidden_dim, num_heads * num_levels * num_points * 2)
        self.weights = nn.Linear(hidden_dim, num_heads * num_levels * num_points)
        self.output = nn.Linear(hidden_dim, hidden_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Point each head in its own direction, its points at growing distance, all with the same weight."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)  # [heads, 2], on the unit square
        radii = torch.arange(1, self.num_points + 1.0)
        ring = directions[:, None, None] * radii[:, None]  # [heads, 1, points, 2]
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(ring.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, queries: Tensor, reference_points: Tensor, levels: list[Tensor]) -> Tensor:
        """Attend from queries to the levels.

        Args:
            queries: ``[B, Q, d]``.
            reference_points: ``[B, Q, 4]``, boxes cxcywh in 0..1. An offset of ``num_points`` reaches the box's edge.
            levels: ``[B, d, h_l, w_l]`` each.

        Returns:
            ``[B, Q, d]``.
        """
        shape = (*queries.shape[:2], self.num_heads, self.num_levels, self.num_points)
        offsets = self.offsets(queries).float().view(*shape, 2)
        centres, sizes = reference_points.float()[:, :, None, None, None].split(2, dim=-1)
        locations = centres + offsets / self.num_points * sizes * 0.5  # [B, Q, heads, levels, points, 2]
        weights = self.weights(queries).float().view(*shape[:3], -1).softmax(-1).view(shape)
        values = [
            self.value(level.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, level.shape[2:])
            for level in levels
        ]
        return self.output(sample_levels(values, locations, weights).to(queries.dtype))


def sample_levels(values: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of bilinear samples; the heads are concatenated.

    Pixel centres lie at (i + 0.5) / width; values outside the map are zero.

    Args:
        values: ``[B, d, h_l, w_l]`` per level; each head owns d / heads consecutive channels.
        locations: ``[B, Q, heads, levels, points, 2]``, x and y in 0..1 of the map.
        weights: ``[B, Q, heads, levels, points]``.

    Returns:
        ``[B, Q, d]``.
    """
    heads = locations.shape[2]
    # Queries come last, so that products and sums run along many queries and not along a few points.
    grids = (2 * locations - 1).permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # [B*heads, levels, points, Q, 2]
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)[:, :, None].contiguous()  # [B*heads, levels, 1, points, Q]
    output = 0.0
    for level, value in enumerate(values):  # a product over all levels at once would copy the samples several times
        # The projection leaves channels last in memory, so one copy splits the heads and converts to float32.
        by_head = value.unflatten(1, (heads, -1)).permute(0, 1, 3, 4, 2)  # [B, heads, h, w, d/heads]
        by_head = by_head.to(torch.float32, memory_format=torch.contiguous_format)
        sampled = F.grid_sample(
            by_head.flatten(0, 1).permute(0, 3, 1, 2),
            grids[:, level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )  # [B*heads, d/heads, points, Q]
        output = output + (sampled * weights[:, level]).sum(2)
    return output.unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2)
