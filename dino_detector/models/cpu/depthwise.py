"""Depth-wise convolution that trains fast in bf16 on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """A depth-wise `torch.nn.Conv2d` that computes in float32 where training computes in bf16, with its bias apart.

    The gradient of the weights takes longer in bf16 than in float32. The gradient of a bias inside the convolution is
    a second convolution; the gradient of a bias outside is a sum. A training in float32 has the plain convolution,
    which took 0.91 times as long (`dino_detector.models.cpu`).
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve ``[B, d, h, w]``."""
        if not torch.is_grad_enabled() or not torch.is_autocast_enabled("cpu"):
            return super().forward(maps)
        with torch.autocast("cpu", enabled=False):
            near = F.conv2d(maps.float(), self.weight, padding=self.padding, groups=self.groups)
        return near.to(maps.dtype) + self.bias.to(maps.dtype)[:, None, None]

    def align_weight(self) -> None:
        """Give the weight ``[d, 1, k, k]`` the strides of its gradient, so that autograd need not copy the gradient."""
        height, width = self.weight.shape[2:]
        self.weight.data = self.weight.data.as_strided(self.weight.shape, (height * width, 1, width, 1))
