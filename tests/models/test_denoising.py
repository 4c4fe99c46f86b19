from __future__ import annotations

import dataclasses

import pytest
import torch
from decoders import tiny_decoder
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from dino_detector.config import Config
from dino_detector.losses import build_criterion
from dino_detector.models.denoising import LABEL_NOISE, DenoisingGenerator, add_box_noise
from dino_detector.models.detr_decoder import DetrDecoder
from dino_detector.structures.targets import Targets

TINY = tiny_decoder(denoising_queries=24)


def levels(batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 16, *size, generator=generator) for size in [(8, 12), (4, 6)]]


def truth(counts: list[int]) -> Targets:
    torch.manual_seed(2)
    return Targets.pad(
        [torch.cat([torch.rand(count, 2) * 0.4 + 0.3, torch.rand(count, 2) * 0.1 + 0.1], 1) for count in counts],
        [torch.randint(3, (count,)) for count in counts],
    )


def generator(max_queries: int = 24) -> DenoisingGenerator:
    torch.manual_seed(0)
    return DenoisingGenerator(max_queries=max_queries, hidden_dim=16, num_classes=3)


def corners_of(boxes_cxcywh: Tensor) -> Tensor:
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def test_groups_of_positive_and_negative_queries_fill_the_limit():
    queries = generator(24)(truth([3, 1]))
    assert queries.num_groups == 4  # 24 / (2 * 3)
    assert queries.contents.shape == (2, 24, 16)
    assert queries.positive.tolist() == ([True] * 3 + [False] * 3) * 4
    assert queries.target[0].tolist() == [0, 1, 2] * 8
    assert queries.query_mask[1].tolist() == [True, False, False] * 8


def test_positive_boxes_move_less_than_half_a_side_and_negative_ones_more():
    torch.manual_seed(0)
    boxes = torch.tensor([0.5, 0.5, 0.1, 0.2]).expand(1, 4000, 4)
    moved = add_box_noise(boxes, torch.arange(4000) < 2000)
    moves = (corners_of(moved) - corners_of(boxes)).abs() / torch.tensor([0.1, 0.2, 0.1, 0.2])
    assert moves[:, :2000].max() <= 0.5 + 1e-5
    assert moves[:, :2000].mean().item() == pytest.approx(0.25, abs=0.01)
    crossed = (moved[:, 2000:, 2:] == 1e-3).any(-1)
    assert 0.4 < crossed.float().mean() < 0.5  # one axis in four, of two: 1 - 9/16
    assert moves[:, 2000:][~crossed].min() >= 0.5 - 1e-4
    assert moves.max() <= 1 + 1e-4
    overlaps = box_iou(corners_of(boxes[0, :1]), corners_of(moved[0]))[0]
    assert overlaps[2000:].max() <= 0.5


@pytest.mark.parametrize(
    "box", [[0.5, 0.5, 1.0, 1.0], [0.5, 0.55, 1.0, 0.9], [0.3, 0.5, 0.6, 1.0], [0.1, 0.1, 0.2, 0.2]], ids=str
)
def test_negative_boxes_at_the_border_of_the_image_differ_from_the_true_box(box: list[float]):
    torch.manual_seed(0)
    boxes = torch.tensor(box).expand(1, 20_000, 4)
    moved = add_box_noise(boxes, torch.zeros(20_000, dtype=torch.bool))
    overlaps = box_iou(corners_of(boxes[0, :1]), corners_of(moved[0]))[0]
    assert overlaps.max() <= 0.5 + 1e-5
    assert corners_of(moved).min() > -1e-3
    assert corners_of(moved).max() < 1 + 1e-3


def test_noised_boxes_stay_in_the_image_and_keep_some_extent():
    torch.manual_seed(0)
    boxes = torch.cat([torch.rand(1, 5000, 2), torch.rand(1, 5000, 2) * 0.5 + 1e-3], dim=-1)
    moved = add_box_noise(boxes, torch.arange(5000) % 2 == 0)
    corners = corners_of(moved)
    assert (moved[..., 2:] >= 1e-3).all()
    assert corners.min() > -1e-3
    assert corners.max() < 1 + 1e-3


def test_matched_indices_pair_positive_queries_with_their_boxes_in_every_layer():
    indices = generator(12)(truth([3, 0, 1])).matched_indices(2)
    expected = {
        (layer, image, group * 6 + target, target)
        for layer in range(2)
        for image, count in ((0, 3), (2, 1))
        for group in range(2)
        for target in range(count)
    }
    assert set(zip(*(column.tolist() for column in indices), strict=True)) == expected
    assert len(indices.layer) == len(expected)


@pytest.mark.parametrize("limit", [2, 7, 16])
def test_more_boxes_than_fit_give_some_of_them_at_random(limit: int):
    torch.manual_seed(0)
    module, boxes = generator(limit), truth([20, 9])
    queries = module(boxes)
    assert queries.contents.shape[1] == limit // 2 * 2
    restored = queries.target[:, queries.positive]
    assert all(len(set(row.tolist())) == limit // 2 for row in restored)
    assert queries.query_mask.all()  # padding is not chosen if there are boxes
    assert module(boxes).target.tolist() != queries.target.tolist()


def test_some_labels_are_drawn_at_random():
    module, boxes = generator(20000), truth([4])
    queries = module(boxes)
    right = module.label_embedding(boxes.labels[0, queries.target[0]])
    wrong = (queries.contents[0] - right).abs().amax(-1) > 0
    assert wrong.float().mean().item() == pytest.approx(LABEL_NOISE * 2 / 3, abs=0.02)  # one in three draws is right


def decoder(**settings: object) -> DetrDecoder:
    torch.manual_seed(0)
    module = DetrDecoder(dataclasses.replace(TINY, **settings), num_classes=3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return module


@pytest.mark.parametrize("deformable", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_detection_does_not_see_the_true_boxes(deformable: bool, groups: int):
    module = decoder(use_deformable=deformable, query_groups=groups)
    blind, seeing = module(levels(2)), module(levels(2), truth([3, 1]))
    assert "denoising" in seeing.auxiliary
    torch.testing.assert_close(seeing.logits, blind.logits)
    torch.testing.assert_close(seeing.boxes_cxcywh, blind.boxes_cxcywh)


def test_denoising_queries_do_not_see_padding():
    module, boxes = decoder(), truth([3, 1])
    junk = Targets(
        torch.where(boxes.valid[..., None], boxes.boxes_cxcywh, 0.7),
        torch.where(boxes.valid, boxes.labels, 2),
        boxes.valid,
    )

    def predicted(targets: Targets) -> Tensor:
        torch.manual_seed(5)
        found = module(levels(2), targets).auxiliary["denoising"]
        return found.logits[:, found.query_mask]

    torch.testing.assert_close(predicted(junk), predicted(boxes))


@pytest.mark.parametrize("counts", [[0, 0], [2, 0]])
def test_images_without_boxes_give_finite_gradients_to_every_weight(counts: list[int]):
    module, boxes = decoder(), truth(counts)
    losses = build_criterion(Config())(module(levels(2), boxes), boxes)
    losses.total.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert (losses.auxiliary["denoising"] > 0) == (sum(counts) > 0)


def test_perfect_restoration_costs_nothing():
    boxes = truth([3, 2])
    queries = generator(12)(boxes)
    indices = queries.matched_indices(1)
    restored = boxes.boxes_cxcywh.gather(1, queries.target[..., None].expand(-1, -1, 4))
    labels = boxes.labels.gather(1, queries.target)
    values = torch.where(queries.positive, 40.0, -40.0)[None, :, None].expand(2, -1, 1)
    logits = torch.full((1, 2, 12, 3), -40.0)
    logits[0] = logits[0].scatter(2, labels[..., None], values)
    criterion = build_criterion(Config())
    sums = criterion.loss_sums(
        logits, restored[indices.batch, indices.query], boxes, indices, query_mask=queries.query_mask
    )
    torch.testing.assert_close(torch.cat(list(sums)), torch.zeros(3), atol=1e-5, rtol=0)
