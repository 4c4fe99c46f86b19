from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from decoders import tiny_decoder
from torch import Tensor

from dino_detector.models.cpu import optimize_for_cpu
from dino_detector.models.detr_decoder import DetrDecoder, FullAttention, spread_boxes
from dino_detector.models.heads import inverse_sigmoid
from dino_detector.models.position_encoding import grid_encoding, sine_encoding
from dino_detector.structures.targets import Targets

TINY = tiny_decoder(decoder_layers=3)

both_attentions = pytest.mark.parametrize("deformable", [True, False], ids=["deformable", "standard"])


def decoder(deformable: bool = True, *, noisy: bool = False, **settings: object) -> DetrDecoder:
    """Return a tiny decoder of 3 classes; with noise no weight has its initial value, as after some training."""
    torch.manual_seed(0)
    module = DetrDecoder(dataclasses.replace(TINY, use_deformable=deformable, **settings), num_classes=3)
    if noisy:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return module


def levels(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 16, *size, generator=generator) for size in [(8, 12), (4, 6)]]


@both_attentions
def test_every_layer_predicts_classes_and_boxes(deformable: bool):
    output = decoder(deformable)(levels())
    assert output.logits.shape == (3, 2, 5, 3)
    assert output.boxes_cxcywh.shape == (3, 2, 5, 4)
    assert ((output.boxes_cxcywh > 0) & (output.boxes_cxcywh < 1)).all()


@both_attentions
def test_the_number_of_layers_is_the_setting(deformable: bool):
    module = decoder(deformable, decoder_layers=1)
    assert len(module.layers) == len(module(levels()).logits) == 1


def test_layers_and_heads_are_objects_of_their_own():
    module = decoder()
    for parts in (module.layers, module.class_heads, module.box_heads):
        assert len({id(part) for part in parts}) == 3
    addresses = [parameter.data_ptr() for parameter in module.parameters()]
    assert len(set(addresses)) == len(addresses)
    first, second = (layer.self_attention.in_proj_weight for layer in list(module.layers)[:2])
    assert not torch.equal(first, second)


def test_class_heads_start_at_a_prior_of_one_in_a_hundred():
    for head in decoder().class_heads:
        torch.testing.assert_close(head.bias.sigmoid(), torch.full((3,), 0.01))


@both_attentions
def test_boxes_of_every_layer_start_at_the_reference_boxes(deformable: bool):
    module = decoder(deformable)
    boxes = module(levels()).boxes_cxcywh
    torch.testing.assert_close(boxes, spread_boxes(5).expand(3, 2, -1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [10, 25, 100, 300])
def test_initial_boxes_cover_the_image(count: int):
    boxes = spread_boxes(count)
    assert boxes.shape == (count, 4)
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert len({tuple(row) for row in boxes.tolist()}) == count
    ys, xs = torch.meshgrid(torch.linspace(0, 1, 21), torch.linspace(0, 1, 21), indexing="ij")
    points = torch.stack([xs, ys], dim=-1).flatten(0, 1)[:, None]
    covered = ((points - boxes[:, :2]).abs() <= boxes[:, 2:] / 2).all(-1).any(1)
    assert covered.float().mean() > 0.8


def test_inverse_sigmoid_stays_finite_at_the_borders():
    values = torch.tensor([0.0, 0.25, 1.0])
    expected = torch.tensor([math.log(1e-5 / (1 - 1e-5)), math.log(1 / 3), math.log((1 - 1e-5) / 1e-5)])
    torch.testing.assert_close(inverse_sigmoid(values), expected, rtol=1e-3, atol=1e-3)


# --- reference points ---------------------------------------------------------------------------------------------


@both_attentions
def test_moving_the_reference_boxes_moves_the_predicted_boxes(deformable: bool):
    module = decoder(deformable)
    with torch.no_grad():
        module.initial_boxes[2] = inverse_sigmoid(torch.tensor([0.3, 0.7, 0.1, 0.2]))
    boxes = module(levels()).boxes_cxcywh
    torch.testing.assert_close(boxes[:, :, 2], torch.tensor([0.3, 0.7, 0.1, 0.2]).expand(3, 2, -1))


def test_deformable_attention_samples_at_the_reference_boxes():
    """Without position embeddings, a query on the empty half of the image sees nothing of the other half."""
    module = decoder(noisy=True, decoder_layers=1, num_queries=1)
    with torch.no_grad():
        for linear in (module.position_head[2], module.layers[0].cross_attention.offsets):
            linear.weight.zero_()
    half = [level.clone() for level in levels()]
    for level in half:
        level[..., level.shape[-1] // 2 :] = 0
    changed = [level * 2 for level in half]

    def moves(x: float) -> bool:
        with torch.no_grad():
            module.initial_boxes[0] = inverse_sigmoid(torch.tensor([x, 0.5, 0.2, 0.2]))
        return not torch.allclose(module(half).logits, module(changed).logits)

    assert moves(0.25)
    assert not moves(0.8)


def test_each_layer_refines_the_boxes_of_the_one_before():
    module = decoder()
    with torch.no_grad():
        for step, head in enumerate(module.box_heads, start=1):
            head[-1].bias.fill_(0.1 * step)
    start = inverse_sigmoid(spread_boxes(5))
    boxes = module(levels(1)).boxes_cxcywh[:, 0]
    torch.testing.assert_close(boxes, torch.stack([start + 0.1, start + 0.3, start + 0.6]).sigmoid())


@both_attentions
def test_each_layer_attends_around_the_refined_boxes(deformable: bool):
    """The boxes of layer 0 affect the classes of layer 1, but no gradient flows back."""
    module = decoder(deformable, noisy=True)
    before = module(levels()).logits
    with torch.no_grad():
        module.box_heads[0][-1].bias.add_(0.5)
    after = module(levels()).logits
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


@both_attentions
def test_gradient_of_boxes_looks_forward_twice_and_ends_there(deformable: bool):
    module = decoder(deformable, noisy=True)
    boxes = module(levels()).boxes_cxcywh
    heads = [head[-1].bias for head in module.box_heads]

    def reached(layer: int) -> list[bool]:
        targets = [module.initial_boxes, *heads]
        found = torch.autograd.grad(boxes[layer].sum(), targets, retain_graph=True, allow_unused=True)
        return [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in found]

    assert reached(0) == [True, True, False, False]
    assert reached(1) == [False, True, True, False]
    assert reached(2) == [False, False, True, True]


@both_attentions
def test_gradients_reach_every_weight(deformable: bool):
    module = decoder(deformable, noisy=True)
    output = module(levels())
    (output.logits.square().sum() + output.boxes_cxcywh.square().sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@both_attentions
def test_fresh_decoders_have_gradients_too(deformable: bool):
    module = decoder(deformable)
    output = module(levels())
    (output.logits.square().sum() + output.boxes_cxcywh.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert all(head[-1].weight.grad.abs().sum() > 0 for head in module.box_heads)


# --- groups -------------------------------------------------------------------------------------------------------


@both_attentions
def test_groups_of_queries_do_not_see_each_other(deformable: bool):
    module = decoder(deformable, noisy=True, query_groups=3).train()
    before = module(levels())
    with torch.no_grad():
        module.contents[5:10].add_(1.0)
    after = module(levels())
    torch.testing.assert_close(after.logits, before.logits)
    others = after.auxiliary["groups"].logits, before.auxiliary["groups"].logits
    moved, kept = (one.unflatten(0, (3, 2)).unbind(1) for one in others)
    assert not torch.allclose(moved[0], kept[0])
    torch.testing.assert_close(moved[1], kept[1])


def test_every_group_is_a_detector_of_its_own():
    """The second group predicts the same alone, as the only group of another decoder."""
    module = decoder(noisy=True, query_groups=2).train()
    beside = module(levels()).auxiliary["groups"]
    with torch.no_grad():
        for rows in (module.contents, module.initial_boxes):
            rows.copy_(rows.roll(5, dims=0))
    alone = module.eval()(levels())
    torch.testing.assert_close(alone.logits, beside.logits)
    torch.testing.assert_close(alone.boxes_cxcywh, beside.boxes_cxcywh)
    assert beside.num_groups == 1


def test_only_training_has_more_than_one_group():
    module = decoder(query_groups=3, denoising_queries=10, two_stage=True)
    output = module.eval()(levels())
    assert output.logits.shape == (3, 2, 5, 3)
    assert output.auxiliary == {}


@both_attentions
def test_a_decoder_that_is_optimized_for_a_cpu_gives_the_same(deformable: bool):
    """The test has groups, and denoising queries of an image without boxes, which no query attends to."""
    targets = Targets.pad(
        [torch.rand(3, 4) * 0.3 + 0.3, torch.empty(0, 4)], [torch.tensor([0, 1, 2]), torch.empty(0).long()]
    )
    outcomes = []
    for plain in (False, True):
        module = decoder(deformable, noisy=True, query_groups=2, denoising_queries=12).train()
        if plain:
            optimize_for_cpu(module)
        torch.manual_seed(0)
        output = module(levels(), targets)
        (output.logits.square().sum() + output.auxiliary["denoising"].logits[:, :1].square().sum()).backward()
        outcomes.append((output, [parameter.grad for parameter in module.parameters()]))
    (fused, gradients), (plain, others) = outcomes
    torch.testing.assert_close(plain.logits, fused.logits)
    torch.testing.assert_close(plain.boxes_cxcywh, fused.boxes_cxcywh)
    torch.testing.assert_close(plain.auxiliary["groups"].logits, fused.auxiliary["groups"].logits)
    for one, other in zip(others, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


# --- positions ----------------------------------------------------------------------------------------------------


def full_attention() -> FullAttention:
    torch.manual_seed(0)
    return FullAttention(hidden_dim=16, num_heads=4, num_levels=2, dropout=0.0)


def test_standard_attention_knows_where_things_are():
    module = full_attention()
    queries = torch.randn(2, 5, 16)
    plain = module(queries, None, levels())
    for axis in (2, 3):
        assert not torch.allclose(module(queries, None, [level.flip(axis) for level in levels()]), plain, atol=1e-4)


def test_standard_attention_puts_positions_on_keys_and_not_on_values():
    module = full_attention()
    with torch.no_grad():
        module.level_embedding.normal_()
    queries, (first, second) = torch.randn(1, 3, 16), levels(1)
    values = torch.cat([first.flatten(2), second.flatten(2)], dim=2).transpose(1, 2)
    positions = torch.cat(
        [
            grid_encoding(8, 12, 16, first.device) + module.level_embedding[0],
            grid_encoding(4, 6, 16, first.device) + module.level_embedding[1],
        ]
    )
    expected, _ = module.attention(queries, values + positions, values)
    torch.testing.assert_close(module(queries, None, [first, second]), expected)


def test_sine_encoding_equals_the_formula():
    x = 0.3
    phases = [2 * math.pi * x, 2 * math.pi * x / math.sqrt(20)]
    expected = [math.sin(phases[0]), math.sin(phases[1]), math.cos(phases[0]), math.cos(phases[1])]
    torch.testing.assert_close(sine_encoding(torch.tensor([x]), 4), torch.tensor(expected))


def test_grid_encoding_takes_pixel_centres_row_by_row():
    encoding = grid_encoding(2, 3, 8, torch.device("cpu"))
    assert encoding.shape == (6, 8)
    centre = torch.tensor([2.5 / 3, 0.5 / 2])  # the last column of the first row
    torch.testing.assert_close(encoding[2], sine_encoding(centre, 4))
    assert len({tuple(row) for row in encoding.tolist()}) == 6


# --- independence -------------------------------------------------------------------------------------------------


@both_attentions
def test_images_of_a_batch_do_not_touch_each_other(deformable: bool):
    module = decoder(deformable, noisy=True).eval()
    together = module(levels(3))
    for image in range(3):
        alone = module([level[image : image + 1] for level in levels(3)])
        for whole, own in zip(together[:2], alone[:2], strict=True):
            torch.testing.assert_close(whole[:, image : image + 1], own, rtol=1e-4, atol=1e-5)


@both_attentions
def test_order_of_queries_does_not_matter(deformable: bool):
    module = decoder(deformable, noisy=True)
    plain = module(levels())
    order = torch.tensor([4, 1, 0, 3, 2])
    with torch.no_grad():
        module.contents.copy_(module.contents[order])
        module.initial_boxes.copy_(module.initial_boxes[order])
    for before, after in zip(plain[:2], module(levels())[:2], strict=True):
        torch.testing.assert_close(after, before[:, :, order], rtol=1e-4, atol=1e-5)


@both_attentions
def test_dropout_acts_in_training_only(deformable: bool):
    module = decoder(deformable, noisy=True, decoder_dropout=0.5)
    assert not torch.equal(module.train()(levels()).logits, module(levels()).logits)
    assert torch.equal(module.eval()(levels()).logits, module(levels()).logits)


@both_attentions
def test_boxes_and_logits_stay_in_full_precision_under_autocast(deformable: bool):
    module = decoder(deformable)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(levels())
    assert output.boxes_cxcywh.dtype == output.logits.dtype == torch.float32
    assert not torch.equal(output.logits.bfloat16().float(), output.logits)
    torch.testing.assert_close(output.boxes_cxcywh[-1, 0], spread_boxes(5), rtol=1e-5, atol=1e-5)
