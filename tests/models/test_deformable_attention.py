from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMultiscaleDeformableAttention,
    MultiScaleDeformableAttention,
)

from dino_detector.models.deformable_attention import DeformableAttention, sample_levels

SIZES = [(7, 5), (4, 9), (2, 3)]
"""height and width of the feature levels"""


def attention(dim: int = 16, heads: int = 4, levels: int = 3, points: int = 4) -> DeformableAttention:
    return DeformableAttention(hidden_dim=dim, num_heads=heads, num_levels=levels, num_points=points)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


def inputs(queries: int = 6, dim: int = 16, batch: int = 2) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return queries, reference points and levels; some reference boxes reach beyond the image."""
    generator = torch.Generator().manual_seed(1)
    boxes = torch.rand(batch, queries, 4, generator=generator)
    levels = [torch.randn(batch, dim, *size, generator=generator) for size in SIZES]
    return torch.randn(batch, queries, dim, generator=generator), boxes, levels


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("heads", "points"), [(4, 4), (2, 3), (8, 1)])
def test_attention_equals_transformers_for_the_same_weights(heads: int, points: int, fresh: bool):
    ours = attention(heads=heads, points=points)
    if not fresh:
        randomised(ours)
    config = DeformableDetrConfig(d_model=16, num_feature_levels=3, disable_custom_kernels=True)
    reference = DeformableDetrMultiscaleDeformableAttention(config, num_heads=heads, n_points=points)
    reference.sampling_offsets.load_state_dict(ours.offsets.state_dict())
    reference.attention_weights.load_state_dict(ours.weights.state_dict())
    reference.value_proj.load_state_dict(ours.value.state_dict())
    reference.output_proj.load_state_dict(ours.output.state_dict())

    queries, boxes, levels = inputs()
    expected, _ = reference(
        queries,
        encoder_hidden_states=torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1),
        reference_points=boxes[:, :, None].expand(-1, -1, 3, -1),
        spatial_shapes=torch.tensor(SIZES),
        spatial_shapes_list=SIZES,
        level_start_index=torch.tensor([0, 35, 71]),
    )
    torch.testing.assert_close(ours(queries, boxes, levels), expected, rtol=1e-4, atol=1e-5)


def test_sampling_equals_the_function_of_transformers():
    generator = torch.Generator().manual_seed(2)
    values = [torch.randn(2, 12, *size, generator=generator) for size in SIZES]
    locations = torch.rand(2, 5, 4, 3, 2, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(2, 5, 4, 3, 2, generator=generator)
    flat = torch.cat([value.flatten(2).transpose(1, 2) for value in values], dim=1).unflatten(2, (4, 3))
    expected = MultiScaleDeformableAttention()(flat, torch.tensor(SIZES), SIZES, None, locations, weights, 64)
    torch.testing.assert_close(sample_levels(values, locations, weights), expected)


def one_sample(value: Tensor, x: float, y: float) -> float:
    """Return the value of a map ``[h, w]`` at a location, read by one head with one point."""
    location = torch.tensor([x, y]).view(1, 1, 1, 1, 1, 2)
    return sample_levels([value[None, None]], location, torch.ones(1, 1, 1, 1, 1)).item()


def test_pixel_centres_lie_at_half_steps():
    value = torch.arange(12.0).view(3, 4)
    for row, column in itertools.product(range(3), range(4)):
        found = one_sample(value, (column + 0.5) / 4, (row + 0.5) / 3)
        assert found == pytest.approx(value[row, column].item(), abs=1e-5)


def test_between_centres_values_are_bilinear():
    value = torch.tensor([[0.0, 1.0], [10.0, 11.0]])
    assert one_sample(value, 0.5, 0.5) == pytest.approx(5.5)
    assert one_sample(value, 0.25 + 0.5 * 0.25, 0.25) == pytest.approx(0.25)


def test_values_outside_the_map_are_zero():
    value = torch.ones(2, 2)
    assert one_sample(value, 0.0, 0.25) == pytest.approx(0.5)  # the edge lies half a pixel from the centre
    assert one_sample(value, -0.5, 0.5) == 0
    assert one_sample(value, 0.5, 1.3) == 0


@pytest.mark.parametrize(("heads", "points"), [(8, 4), (6, 2), (4, 1)])
def test_points_start_as_a_ring_and_are_all_distinct(heads: int, points: int):
    module = attention(dim=24, heads=heads, points=points)
    assert (module.offsets.weight == 0).all()
    offsets = module.offsets.bias.view(heads, 3, points, 2)
    for level in range(3):
        distinct = {tuple(round(value, 4) for value in point) for point in offsets[:, level].flatten(0, 1).tolist()}
        assert len(distinct) == heads * points
    radii = offsets.abs().amax(-1)  # on squares around the centre
    torch.testing.assert_close(radii, torch.arange(1.0, points + 1).expand(heads, 3, points))
    torch.testing.assert_close(offsets[0, 0, 0], torch.tensor([1.0, 0.0]))  # the first head looks to the right


def test_the_farthest_point_starts_on_the_edge_of_the_box():
    """An untrained head 0 reads centre + (1/4, 2/4, 3/4, 4/4) of half the width: here pixel centres 4 to 7 of a row."""
    module = attention(dim=4, heads=4, levels=1, points=4)
    with torch.no_grad():
        for linear in (module.value, module.output):
            linear.weight.copy_(torch.eye(4))
    row = torch.tensor([0, 0, 0, 0, 1, 10, 100, 1000.0, 0, 0])
    level = row.expand(1, 4, 10, 10)
    box = torch.tensor([[[0.35, 0.55, 0.8, 0.2]]])
    found = module(torch.zeros(1, 1, 4), box, [level])
    assert found[0, 0, 0].item() == pytest.approx((1 + 10 + 100 + 1000) / 4, rel=1e-4)


def test_weights_are_shared_out_over_all_levels_and_points():
    module = randomised(attention())
    with torch.no_grad():
        for linear in (module.value, module.output):
            linear.weight.copy_(torch.eye(16))
            linear.bias.zero_()
    queries, boxes, levels = inputs()
    inside = torch.cat([torch.full_like(boxes[..., :2], 0.5), torch.full_like(boxes[..., 2:], 1e-3)], dim=-1)
    found = module(queries, inside, [torch.ones_like(level) for level in levels])
    torch.testing.assert_close(found, torch.ones_like(found))


def test_gradients_of_locations_and_weights_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(3)
    locations = torch.rand(1, 2, 2, 2, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.rand(1, 2, 2, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    values = [torch.randn(1, 4, 3, 2, generator=generator), torch.randn(1, 4, 2, 4, generator=generator)]

    def sampled(locations: Tensor, weights: Tensor) -> Tensor:
        return sample_levels(values, locations.float(), weights.float()).double()

    # samples are computed in float32, so steps and tolerances are coarse
    assert torch.autograd.gradcheck(sampled, (locations, weights), eps=1e-3, atol=2e-2, rtol=2e-2)


def test_gradients_reach_every_weight_the_boxes_and_the_levels():
    module = randomised(attention())
    queries, boxes, levels = inputs()
    everything = [queries.requires_grad_(), boxes.requires_grad_(), *(level.requires_grad_() for level in levels)]
    module(queries, boxes, levels).square().sum().backward()
    for tensor in (*everything, *module.parameters()):
        assert tensor.grad.abs().sum() > 0


def test_images_of_a_batch_do_not_touch_each_other():
    module = randomised(attention())
    queries, boxes, levels = inputs(batch=3)
    together = module(queries, boxes, levels)
    alone = module(queries[1:2], boxes[1:2], [level[1:2] for level in levels])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_half_precision_queries_get_half_precision_answers():
    module = randomised(attention())
    queries, boxes, levels = inputs()
    expected = module(queries, boxes, levels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(queries.bfloat16(), boxes, levels)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.3)
