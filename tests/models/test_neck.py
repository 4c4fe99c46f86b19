from __future__ import annotations

import pytest
import torch

from dino_detector.models.neck import Block, ChannelNorm, Neck


def maps(count: int, batch: int = 2, height: int = 6, width: int = 10) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 12, height, width, generator=generator) for _ in range(count)]


def neck(scales: list[float], num_features: int = 1, blocks: int = 0) -> Neck:
    torch.manual_seed(0)
    return Neck(in_channels=12, num_features=num_features, hidden_dim=8, scales=scales, blocks=blocks)


@pytest.mark.parametrize(
    ("scale", "size"), [(4.0, (24, 40)), (2.0, (12, 20)), (1.0, (6, 10)), (0.5, (3, 5)), (0.25, (2, 3))]
)
def test_levels_have_the_size_of_their_scale(scale: float, size: tuple[int, int]):
    (level,) = neck([scale])(maps(1))
    assert level.shape == (2, 8, *size)


def test_levels_come_in_the_order_of_their_scales():
    assert [level.shape[2] for level in neck([0.5, 2.0, 1.0])(maps(1))] == [3, 12, 6]


def test_channels_of_every_position_are_normalised():
    levels = neck([2.0, 1.0, 0.5])(maps(1))
    for level in levels:  # a fresh layer norm leaves mean 0 and variance 1
        torch.testing.assert_close(level.mean(1), torch.zeros_like(level[:, 0]), atol=1e-5, rtol=0)
        torch.testing.assert_close(level.var(1, correction=0), torch.ones_like(level[:, 0]), atol=1e-2, rtol=0)


def test_channel_norm_is_layer_norm_of_each_position():
    norm = ChannelNorm(12)
    torch.nn.init.normal_(norm.norm.weight)
    (one,) = maps(1)
    expected = norm.norm(one[1, :, 2, 3])
    torch.testing.assert_close(norm(one)[1, :, 2, 3], expected)


def test_every_feature_map_is_used_with_its_own_projection():
    module = neck([1.0], num_features=3)
    three = maps(3)
    before = module(three)[0]
    for position in range(3):
        changed = list(three)
        changed[position] = changed[position].flip(1)
        assert not torch.allclose(module(changed)[0], before)
    assert not torch.allclose(module(three[::-1])[0], before)


def test_a_wrong_number_of_feature_maps_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        neck([1.0], num_features=2)(maps(1))


def test_positions_stay_where_they_are():
    """A change of one patch changes only nearby positions, at every scale."""
    module = neck([2.0, 1.0])
    (one,) = maps(1, batch=1)
    moved = one.clone()
    moved[..., 4, 7] += 3.0
    for scale, before, after in zip((2, 1), module([one]), module([moved]), strict=True):
        changed = (before - after).abs().sum(1)[0] > 1e-6
        expected = torch.zeros_like(changed)
        expected[4 * scale : 5 * scale, 7 * scale : 8 * scale] = True
        assert torch.equal(changed, expected)


def test_blocks_let_positions_see_their_neighbours():
    (one,) = maps(1, batch=1)
    moved = one.clone()
    moved[..., 2, 5] += 3.0
    changed = (neck([1.0], blocks=1)([one])[0] - neck([1.0], blocks=1)([moved])[0]).abs().sum(1)[0] > 1e-7
    expected = torch.zeros_like(changed)
    expected[:, 2:9] = True  # 7 x 7 around the position, in a map of 6 rows
    assert torch.equal(changed, expected)


def test_images_of_a_batch_do_not_touch_each_other():
    module = neck([2.0, 0.5], num_features=2)
    both = maps(2)
    for level, alone in zip(module(both), module([one[1:] for one in both]), strict=True):
        torch.testing.assert_close(level[1:], alone, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight():
    module = neck([2.0, 1.0, 0.25], num_features=2)
    sum(level.square().sum() * weight for weight, level in enumerate(module(maps(2)), start=1)).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_block_trains_with_the_values_and_gradients_of_its_formula():
    """Compare with the formula in float64, layer by layer."""
    torch.manual_seed(0)
    block, exact = Block(8), Block(8).double()
    exact.load_state_dict({name: value.double() for name, value in block.state_dict().items()})
    (one,) = [values[:, :8].clone().requires_grad_() for values in maps(1)]
    near = exact.spatial(one.double()).permute(0, 2, 3, 1)
    expected = one.double() + exact.channels(exact.norm(near)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(one), expected.float())
    with torch.no_grad():
        torch.testing.assert_close(block(one), expected.float())
    wanted = torch.autograd.grad(expected.square().sum(), [one, *exact.parameters()])
    found = torch.autograd.grad(block(one).square().sum(), [one, *block.parameters()])
    torch.testing.assert_close(found, tuple(gradient.float() for gradient in wanted))


def test_a_block_in_bf16_stays_near_its_values_in_float32():
    torch.manual_seed(0)
    block = Block(8)
    (one,) = [values[:, :8].bfloat16() for values in maps(1)]
    expected = block(one.float())
    with torch.autocast("cpu", torch.bfloat16):
        trained = block(one)
    assert trained.dtype == torch.bfloat16  # the maps of a level keep their precision
    torch.testing.assert_close(trained.float(), expected, atol=0.03, rtol=0.02)
