from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dino_detector.models.cpu import attention
from dino_detector.models.cpu.attention import attend


def heads(batch: int = 3, tokens: int = 50, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Return query, key and value as in a layer: the heads are a transposed view."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(3, batch, tokens, 2, 8, generator=generator).to(dtype)
    return [one.transpose(1, 2) for one in made]


def by_definition(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (one.double() for one in (query, key, value))
    weights = (query @ key.transpose(-1, -2) / 8**0.5).exp()
    return (weights @ value / weights.sum(-1, keepdim=True)).transpose(1, 2)


@pytest.mark.parametrize("images_at_once", [1, 2, 3])
def test_bf16_attention_is_softmax_attention_however_many_images_run_at_once(
    images_at_once: int, monkeypatch: pytest.MonkeyPatch
):
    query, key, value = heads()
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", images_at_once * 2 * 50**2 * 2)
    attended, _ = attend(nn.Module(), query, key, value, scaling=8**-0.5)
    assert attended.shape == (3, 50, 2, 8)
    torch.testing.assert_close(attended.double(), by_definition(query, key, value), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("most_kept", [attention.MOST_KEPT, 0], ids=["plain", "fused"])
def test_gradients_are_those_of_softmax_attention(most_kept: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "MOST_KEPT", most_kept)
    given = [one.detach().requires_grad_() for one in heads()]
    exact = [one.detach().double().requires_grad_() for one in given]
    towards = torch.randn(3, 50, 2, 8, generator=torch.Generator().manual_seed(1))
    (attend(nn.Module(), *given, scaling=8**-0.5)[0] * towards).sum().backward()
    (by_definition(*exact) * towards).sum().backward()
    for one, other in zip(given, exact, strict=True):
        error = (one.grad.double() - other.grad).norm() / other.grad.norm()
        assert error < 0.02
