from __future__ import annotations

import dataclasses

import pytest
import torch
from decoders import tiny_decoder
from torch import Tensor

from dino_detector.config import Config
from dino_detector.losses import build_criterion
from dino_detector.models.detr_decoder import DetrDecoder
from dino_detector.models.proposals import ANCHOR_CELLS, ProposalHead, anchor_boxes, anchors_before_sigmoid
from dino_detector.structures.predictions import AuxiliaryOutput, DecoderOutput
from dino_detector.structures.targets import Targets

TINY = tiny_decoder(two_stage=True)


def head() -> ProposalHead:
    torch.manual_seed(0)
    return ProposalHead(hidden_dim=16, box_head_dim=8, num_classes=3)


def levels(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 16, *size, generator=generator) for size in [(8, 12), (4, 6)]]


def test_anchors_lie_around_the_centres_of_the_cells_row_by_row():
    anchors = anchor_boxes(8, 4, torch.device("cpu"))
    assert anchors.shape == (32, 4)
    expected = torch.tensor([0.375, 0.1875, ANCHOR_CELLS / 4, ANCHOR_CELLS / 8])  # second row, second column
    torch.testing.assert_close(anchors[5], expected)


def test_anchors_of_a_map_of_one_cell_stay_within_the_image():
    torch.testing.assert_close(anchor_boxes(1, 1, torch.device("cpu")), torch.tensor([[0.5, 0.5, 0.9, 0.9]]))


def test_the_positions_of_highest_score_are_proposed_in_their_order():
    module = head()
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels()], dim=1)
    scores = module.class_head(module.projection(tokens)).amax(-1)
    anchors = torch.cat([anchor_boxes(8, 12, torch.device("cpu")), anchor_boxes(4, 6, torch.device("cpu"))])
    proposals = module(levels(), 7)
    for image in range(2):
        order = sorted(range(120), key=lambda position: -scores[image, position])[:7]
        assert proposals.top[image].tolist() == order
        torch.testing.assert_close(proposals.logits[image].amax(-1), scores[image])
        torch.testing.assert_close(proposals.box_logits[image].sigmoid(), anchors)  # the box head is new


def test_inference_computes_the_same_boxes_of_the_selected_positions_alone():
    module = head()
    torch.nn.init.normal_(module.box_head[-1].weight)
    every = module(levels(), 7)
    selected = module.eval()(levels(), 7)
    assert selected.box_logits is None
    assert torch.equal(selected.top, every.top)
    torch.testing.assert_close(selected.reference_logits, every.reference_logits)
    torch.testing.assert_close(every.reference_logits, every.box_logits.take_along_dim(every.top[..., None], dim=1))


def test_there_are_no_more_proposals_than_positions():
    assert head()(levels(), 500).top.shape == (2, 96 + 24)


@pytest.mark.parametrize("queries", [5, 500])
def test_queries_start_at_the_proposals(queries: int):
    torch.manual_seed(0)
    module = DetrDecoder(dataclasses.replace(TINY, num_queries=queries), num_classes=3)
    output = module(levels())
    proposals = output.auxiliary["proposals"]
    assert output.boxes_cxcywh.shape == (2, 2, min(queries, 120), 4)
    order = proposals.logits[0].amax(-1).argsort(dim=1, descending=True)[:, :queries]
    best = proposals.boxes_cxcywh[0].take_along_dim(order[..., None], dim=1)
    torch.testing.assert_close(output.boxes_cxcywh[0], best)


def test_every_position_learns():
    torch.manual_seed(0)
    maps = [level.requires_grad_() for level in levels()]
    proposals = DetrDecoder(TINY, num_classes=3)(maps).auxiliary["proposals"]
    assert proposals.logits.shape == (1, 2, 120, 3)
    proposals.logits.square().sum().backward()
    assert all((level.grad.abs().sum(1) > 0).all() for level in maps)  # also where no query starts


def test_scores_of_proposals_stay_in_full_precision_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        proposals = head()(levels(), 7)
    assert proposals.logits.dtype == proposals.box_logits.dtype == torch.float32
    assert not torch.equal(proposals.logits.bfloat16().float(), proposals.logits)


def test_every_group_starts_at_the_proposals():
    torch.manual_seed(0)
    module = DetrDecoder(dataclasses.replace(TINY, query_groups=3), num_classes=3)
    output = module(levels())
    for group in output.auxiliary["groups"].boxes_cxcywh[:2]:  # of the first layer
        torch.testing.assert_close(group, output.boxes_cxcywh[0])


def truth(*counts: int) -> Targets:
    generator = torch.Generator().manual_seed(2)
    size = max(counts)
    return Targets(
        boxes_cxcywh=0.1 + 0.4 * torch.rand(len(counts), size, 4, generator=generator),
        labels=torch.randint(3, (len(counts), size), generator=generator),
        valid=torch.arange(size) < torch.tensor(counts)[:, None],
    )


def gradients_of_proposals(module: DetrDecoder, proposals: AuxiliaryOutput, targets: Targets) -> list[Tensor]:
    """Return the gradients of the proposal head's weights."""
    output = DecoderOutput(torch.zeros(1, 2, 5, 3), torch.full((1, 2, 5, 4), 0.5), {"proposals": proposals})
    losses = build_criterion(Config())(output, targets)
    return torch.autograd.grad(losses.auxiliary["proposals"], list(module.proposal_head.parameters()))


@pytest.mark.parametrize("counts", [(3, 1), (4, 0), (0, 0)])
def test_proposals_learn_as_if_the_boxes_of_all_positions_had_gradients(counts: tuple[int, int]):
    torch.manual_seed(0)
    module = DetrDecoder(TINY, num_classes=3)
    head = module.proposal_head
    torch.nn.init.normal_(head.box_head[-1].weight, std=0.3)
    found = module(levels()).auxiliary["proposals"]
    tokens = head.projection(torch.cat([level.flatten(2).transpose(1, 2) for level in levels()], dim=1))
    anchors = torch.cat([anchor_boxes(8, 12, torch.device("cpu")), anchor_boxes(4, 6, torch.device("cpu"))])
    boxes = (anchors.logit() + head.box_head(tokens)).sigmoid()
    torch.testing.assert_close(found.boxes_cxcywh[0], boxes)
    expected = gradients_of_proposals(
        module, AuxiliaryOutput(head.class_head(tokens)[None], boxes[None]), truth(*counts)
    )
    for gradient, wanted in zip(gradients_of_proposals(module, found, truth(*counts)), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert all(gradient.any() for gradient in expected) == (sum(counts) > 0)


def test_boxes_of_the_loss_have_full_precision_under_autocast():
    torch.manual_seed(0)
    module = head()
    torch.nn.init.normal_(module.box_head[-1].weight, std=0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        proposals = module(levels(), 7)
    chosen = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 119])
    boxes = module.decode_boxes(proposals, *chosen)  # outside of autocast
    assert boxes.dtype == torch.float32
    torch.testing.assert_close(boxes, proposals.box_logits.sigmoid()[chosen], rtol=0.02, atol=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module.decode_boxes(proposals, *chosen), boxes)


def test_proposals_learn_from_their_own_loss_alone():
    torch.manual_seed(0)
    module = DetrDecoder(TINY, num_classes=3)
    torch.nn.init.normal_(module.proposal_head.box_head[-1].weight)
    output = module(levels())
    output.boxes_cxcywh.sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in module.proposal_head.parameters())
    gradients = gradients_of_proposals(module, output.auxiliary["proposals"], truth(2, 1))
    assert all(gradient.any() for gradient in gradients)


def test_images_of_a_batch_do_not_touch_each_other():
    torch.manual_seed(0)
    module = DetrDecoder(TINY, num_classes=3).eval()
    together = module(levels(3))
    for image in range(3):
        alone = module([level[image : image + 1] for level in levels(3)])
        torch.testing.assert_close(together.logits[:, image : image + 1], alone.logits, rtol=1e-4, atol=1e-5)


def test_anchors_are_made_once_and_serve_training_after_inference():
    sizes, device = ((5, 7), (3, 4)), torch.device("cpu")
    with torch.inference_mode():
        first = anchors_before_sigmoid(sizes, device)
    assert anchors_before_sigmoid(sizes, device) is first
    expected = torch.cat([anchor_boxes(5, 7, device), anchor_boxes(3, 4, device)])
    torch.testing.assert_close(first.sigmoid(), expected)
    (first * torch.ones(4, requires_grad=True)).sum().backward()  # a tensor from inference mode would raise
