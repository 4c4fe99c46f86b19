"""Neck: from the maps of several ViT layers to the feature levels of the decoder.

Sources: simple feature pyramid, Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection",
https://arxiv.org/abs/2203.16527: strided convolutions make every level from one map. Here the map is a sum of projected
layers, as in Chen et al., "LW-DETR", https://arxiv.org/abs/2406.03459; a norm and a GELU follow each strided and each
transposed convolution, and blocks of each level come last.
"""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``[B, d, h, w]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise each position."""
        return self.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Neck(nn.Module):
    """Projects the backbone's maps to the decoder's width, sums them, and resamples the sum to each scale.

    Args:
        in_channels: width D of the backbone.
        num_features: number of maps; each has its own projection.
        hidden_dim: width d of the levels.
        scales: size of each level relative to the patch grid, powers of two.
        blocks: number of convolutional blocks of each level.
    """

    def __init__(
        self, *, in_channels: int, num_features: int, hidden_dim: int, scales: list[float], blocks: int
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(in_channels, hidden_dim, 1) for _ in range(num_features))
        self.norm = ChannelNorm(hidden_dim)
        self.levels = nn.ModuleList(
            nn.Sequential(*_resample(hidden_dim, scale), *(Block(hidden_dim) for _ in range(blocks)))
            for scale in scales
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return a level ``[B, d, h*scale, w*scale]`` per scale, from maps ``[B, D, h, w]``."""
        projected = [projection(each) for projection, each in zip(self.projections, maps, strict=True)]
        fused = self.norm(sum(projected[1:], start=projected[0]))
        return [level(fused) for level in self.levels]


class Block(nn.Module):
    """ConvNeXt block: a depth-wise 7x7 convolution, then an MLP over the channels, with a residual connection.

    Source: Liu et al., "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545; here the MLP is 2
    times as wide instead of 4 times, and there is no layer scale and no drop path.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.channels = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``[B, d, h, w]`` to the same shape."""
        near = self.spatial(maps).permute(0, 2, 3, 1)  # [B, h, w, d]
        return maps + self.channels(self.norm(near)).permute(0, 3, 1, 2)


def _resample(channels: int, scale: float) -> nn.Sequential:
    """Return layers that resample maps by a power of two, one factor of two at a time."""
    steps: list[nn.Module] = []
    while scale > 1:
        steps += [nn.ConvTranspose2d(channels, channels, 2, stride=2), ChannelNorm(channels), nn.GELU()]
        scale /= 2
    while scale < 1:
        steps += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), ChannelNorm(channels), nn.GELU()]
        scale *= 2
    return nn.Sequential(*steps, nn.Conv2d(channels, channels, 1), ChannelNorm(channels))
