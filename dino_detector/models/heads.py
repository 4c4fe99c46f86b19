"""The heads that say what a query shows and how its box moves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

CLASS_PRIOR = 0.01
"""Score of every class before training, so that the many queries without an object do not drown the others.

Source: Lin et al., "Focal Loss", https://arxiv.org/abs/1708.02002, section 4.1.
"""


class ClassHead(nn.Linear):
    """A linear layer that computes in float32 under autocast too.

    Of the logits between -5 and -4, where most lie, bf16 tells 33 apart, and scores are there to be ranked.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """From ``[..., d]`` in any precision to ``[..., C]`` in that of the weights."""
        with torch.autocast(tokens.device.type, enabled=False):
            return super().forward(tokens.to(self.weight.dtype))


def class_head(dim: int, num_classes: int) -> ClassHead:
    """Logits of the classes from width ``dim``."""
    head = ClassHead(dim, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
    return head


def box_head(dim: int, width: int) -> nn.Sequential:
    """Three layers from width ``dim`` to a change of a box, which is zero before training."""
    head = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
    nn.init.zeros_(head[-1].weight)
    nn.init.zeros_(head[-1].bias)
    return head


def inverse_sigmoid(values: Tensor) -> Tensor:
    """Logits of values in 0..1, which are kept 1e-5 away from both ends."""
    inside = values.clamp(1e-5, 1 - 1e-5)
    return (inside / (1 - inside)).log()  # OpenVINO does not know torch.logit
