"""Self-attention of the backbone's layers, in the form that is fast on the device it runs on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

ATTENTION = "dino_detector"
"""the name that transformers knows `attend` by"""
SCORES_AT_ONCE = 4 * 2**20
"""bytes of scores that are computed together: what a cache of a processor holds"""
MOST_KEPT = 128 * 2**20
"""bytes of scores that a layer may keep for its backward pass"""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of every token to all of its image, ``[B, T, heads, d]``, as `transformers.AttentionInterface` asks.

    PyTorch's fused kernel, but for bf16 on a CPU, where that takes up to three times as long as two matrix products and
    a softmax: these it is there, for a few images at a time, as long as what the backward pass needs stays small.

    Args:
        module: the layer's attention, which says nothing here.
        query: ``[B, heads, T, d]``, as ``key`` and ``value``.
        key: see ``query``.
        value: see ``query``.
        attention_mask: None; vision transformers have none.
        scaling: factor of the scores.
        dropout: probability of a weight to be left out.
        options: what other attentions need, such as that none is causal.
    """
    per_image = query.shape[1] * query.shape[2] ** 2 * query.element_size()
    needs_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    kept = len(query) * per_image if needs_gradient else 0
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or dropout or kept > MOST_KEPT:
        fused = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
        return fused.transpose(1, 2), None
    at_once = max(1, SCORES_AT_ONCE // per_image)
    attended = [
        torch.matmul(torch.matmul(q, k.transpose(-1, -2)).softmax(-1), v).transpose(1, 2)
        for q, k, v in zip((query * scaling).split(at_once), key.split(at_once), value.split(at_once), strict=True)
    ]
    return torch.cat(attended), None


AttentionInterface.register(ATTENTION, attend)
