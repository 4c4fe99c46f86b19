"""Class head and box head, shared in form by the decoder layers and the proposals."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

CLASS_PRIOR = 0.01
"""score of every class before training: a low score keeps the loss of the many negatives small

Source: Lin et al., "Focal Loss", https://arxiv.org/abs/1708.02002, section 4.1.
"""


class ClassHead(nn.Linear):
    """A linear layer whose scores start at `CLASS_PRIOR`. It computes in float32, also under autocast.

    Most logits lie between -5 and -4, where bf16 has 33 values: too few to rank detections by score.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, num_classes)
        nn.init.constant_(self.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[..., d]`` of any precision to logits ``[..., C]`` in the precision of the weights."""
        with torch.autocast(tokens.device.type, enabled=False):
            return super().forward(tokens.to(self.weight.dtype))


def box_head(dim: int, width: int) -> nn.Sequential:
    """Build a 3-layer MLP that predicts a change of a box before the sigmoid; the change starts at zero."""
    head = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
    nn.init.zeros_(head[-1].weight)
    nn.init.zeros_(head[-1].bias)
    return head


def inverse_sigmoid(values: Tensor) -> Tensor:
    """Return the logits of values in 0..1, clamped to 1e-5 from both ends."""
    inside = values.clamp(1e-5, 1 - 1e-5)
    return (inside / (1 - inside)).log()  # OpenVINO does not know torch.logit
