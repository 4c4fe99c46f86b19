from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

from dino_detector.config import Config, LossConfig
from dino_detector.losses import LossTerms, SetCriterion, build_criterion, classification_losses
from dino_detector.structures.predictions import AuxiliaryOutput, DecoderOutput, MatchedIndices
from dino_detector.structures.targets import Targets


@pytest.fixture
def criterion() -> SetCriterion:
    return build_criterion(Config().replace(classification_loss="focal", set_cost_quality=0.0))


def losses(criterion: SetCriterion, logits: Tensor, boxes: Tensor, truth: Targets) -> LossTerms:
    """Return the loss terms of a batch."""
    return criterion(DecoderOutput(logits, boxes, {}), truth).terms


def focal(logit: float, wanted: int) -> float:
    """Return the focal loss of one query and class by its formula, with alpha 0.25 and gamma 2."""
    probability = 1 / (1 + math.exp(-logit))
    if wanted:
        return -0.25 * (1 - probability) ** 2 * math.log(probability)
    return -0.75 * probability**2 * math.log(1 - probability)


def one_pair() -> tuple[Tensor, Tensor, Targets]:
    """Return two queries, two classes, and one box that query 1 matches with IoU 0.6 and L1 0.1."""
    logits = torch.tensor([[[[-1.0, 0.5], [0.25, 2.0]]]])
    boxes = torch.tensor([[[[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4]]]])
    return logits, boxes, Targets.pad([torch.tensor([[0.6, 0.5, 0.4, 0.4]])], [torch.tensor([1])])


def random_batch(
    counts: list[int], *, layers: int = 2, queries: int = 6, seed: int = 0
) -> tuple[Tensor, Tensor, Targets]:
    torch.manual_seed(seed)
    images = len(counts)
    logits = torch.randn(layers, images, queries, 3)
    boxes = torch.rand(layers, images, queries, 4) * 0.4 + 0.1
    truth = Targets.pad(
        [torch.rand(count, 4) * 0.4 + 0.1 for count in counts], [torch.randint(3, (count,)) for count in counts]
    )
    return logits, boxes, truth


def rows(truth: Targets, images: slice) -> Targets:
    return Targets(*(column[images] for column in truth))


@pytest.mark.parametrize("scale", [1, 60])
def test_the_focal_loss_is_that_of_torchvision(scale: int):
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 3, 7, 5)).requires_grad_()
    matched = tuple(torch.tensor(column) for column in ([0, 0, 1], [0, 2, 2], [6, 1, 0], [4, 0, 0]))
    found = classification_losses(logits, matched, ious=torch.ones(3), kind="focal", focal_alpha=0.3, focal_gamma=1.5)
    wanted = torch.zeros_like(logits).index_put(matched, torch.ones(()))
    expected = sigmoid_focal_loss(logits, wanted, alpha=0.3, gamma=1.5)
    torch.testing.assert_close(found, expected)
    gradient, expected_gradient = (torch.autograd.grad(losses.sum(), logits)[0] for losses in (found, expected))
    torch.testing.assert_close(gradient, expected_gradient)


def test_losses_of_one_pair_equal_the_values_worked_out_by_hand(criterion: SetCriterion):
    terms = losses(criterion, *one_pair())
    expected = focal(-1.0, 0) + focal(0.5, 0) + focal(0.25, 0) + focal(2.0, 1)
    torch.testing.assert_close(terms.classification, torch.tensor([expected]))
    torch.testing.assert_close(terms.bbox, torch.tensor([0.1]))
    torch.testing.assert_close(terms.giou, torch.tensor([1 - 0.6]))


def bce(logit: float, wanted: float) -> float:
    """Return the binary cross entropy by its formula."""
    probability = 1 / (1 + math.exp(-logit))
    return -wanted * math.log(probability) - (1 - wanted) * math.log(1 - probability)


SCORE = 1 / (1 + math.exp(-2.0))
OTHERS = (-1.0, 0.5, 0.25)
"""in `one_pair`: score of the matched query for its class, and logits of the negatives"""


def negatives(weight: float, power: float) -> float:
    return sum(weight * (1 / (1 + math.exp(-logit))) ** power * bce(logit, 0) for logit in OTHERS)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("varifocal", 0.6 * bce(2.0, 0.6) + negatives(0.75, 2)),
        ("iou_aware", bce(2.0, SCORE**0.25 * 0.6**0.75) + negatives(1, 2)),
        ("matchability_aware", bce(2.0, 0.6**1.5) + negatives(1, 1.5)),
    ],
)
def test_losses_that_use_the_iou_equal_the_values_worked_out_by_hand(kind: str, expected: float):
    criterion = build_criterion(Config().replace(classification_loss=kind, set_cost_quality=0.0))
    terms = losses(criterion, *one_pair())
    torch.testing.assert_close(terms.classification, torch.tensor([expected]))


@pytest.mark.parametrize("kind", ["varifocal", "iou_aware", "matchability_aware"])
def test_no_gradient_goes_from_the_scores_to_the_boxes(kind: str):
    criterion = build_criterion(Config().replace(classification_loss=kind))
    logits, boxes, truth = one_pair()
    boxes.requires_grad_()
    logits.requires_grad_()
    losses(criterion, logits, boxes, truth).classification.sum().backward()
    assert boxes.grad is None or (boxes.grad == 0).all()


@pytest.mark.parametrize(
    ("kind", "weight", "wanted", "negative", "power"),
    [
        ("varifocal", 0.6, 0.6, 0.75, 2),
        ("iou_aware", 1, SCORE**0.25 * 0.6**0.75, 1, 2),
        ("matchability_aware", 1, 0.6**1.5, 1, 1.5),
    ],
)
def test_weights_and_goals_that_depend_on_scores_have_no_gradient(
    kind: str, weight: float, wanted: float, negative: float, power: float
):
    """Only the cross entropies have a gradient: the weight times (score - target)."""
    criterion = build_criterion(Config().replace(classification_loss=kind, set_cost_quality=0.0))
    logits, boxes, truth = one_pair()
    logits.requires_grad_()
    losses(criterion, logits, boxes, truth).classification.sum().backward()
    scores = logits.detach().sigmoid()
    expected = negative * scores**power * scores
    expected[0, 0, 1, 1] = weight * (SCORE - wanted)
    torch.testing.assert_close(logits.grad, expected)


def test_auxiliary_losses_are_weighted_and_averaged_over_groups(criterion: SetCriterion):
    logits, boxes, truth = random_batch([2, 0, 3])
    config = LossConfig()
    alone = losses(criterion, logits, boxes, truth).total(config)
    no_query = torch.zeros(3, 6, dtype=torch.bool)
    auxiliary = {
        "twice": AuxiliaryOutput(logits.repeat(2, 1, 1, 1), boxes.repeat(2, 1, 1, 1), num_groups=2),
        "none": AuxiliaryOutput(logits, boxes, indices=no_indices(), query_mask=no_query),
    }
    whole = criterion(DecoderOutput(logits, boxes, auxiliary), truth)
    torch.testing.assert_close(whole.auxiliary["twice"], alone)
    assert whole.auxiliary["none"] == 0
    torch.testing.assert_close(whole.total, 2 * alone)


def test_given_indices_replace_the_matcher(criterion: SetCriterion):
    logits, boxes, truth = one_pair()
    worse = MatchedIndices(*(torch.tensor([index]) for index in (0, 0, 0, 0)))
    given = AuxiliaryOutput(logits, boxes, indices=worse)
    found = criterion(DecoderOutput(logits, boxes, {"given": given}), truth)
    expected = criterion.loss_sums(logits, given.matched_boxes(worse), truth, worse).total(LossConfig())  # of one box
    torch.testing.assert_close(found.auxiliary["given"], expected)
    assert expected > found.terms.total(LossConfig())


def test_the_loss_of_given_indices_is_divided_by_their_own_number(criterion: SetCriterion):
    """In a crowded image only some boxes get denoising queries."""
    logits, boxes, truth = random_batch([4], layers=2)
    some = MatchedIndices(
        torch.tensor([0, 0, 1, 1]), torch.zeros(4).long(), torch.tensor([0, 1, 0, 1]), torch.tensor([2, 3, 2, 3])
    )
    given = AuxiliaryOutput(logits, boxes, indices=some)
    found = criterion(DecoderOutput(logits, boxes, {"given": given}), truth)
    expected = criterion.loss_sums(logits, given.matched_boxes(some), truth, some).total(LossConfig()) / 2
    torch.testing.assert_close(found.auxiliary["given"], expected)


def no_indices() -> MatchedIndices:
    return MatchedIndices(*(torch.zeros(0, dtype=torch.int64) for _ in range(4)))


def test_total_is_the_weighted_sum_over_terms_and_layers():
    terms = LossTerms(torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.2]), torch.tensor([0.5, 0.25]))
    weights = LossConfig(loss_weight_class=1.0, loss_weight_bbox=10.0, loss_weight_giou=4.0)
    torch.testing.assert_close(terms.total(weights), torch.tensor(3.0 + 3.0 + 3.0))


def test_losses_are_divided_by_the_boxes_of_the_batch(criterion: SetCriterion):
    logits, boxes, truth = one_pair()
    twice = Targets(*(torch.cat([column, column]) for column in truth))
    terms = losses(criterion, logits.expand(-1, 2, -1, -1), boxes.expand(-1, 2, -1, -1), twice)
    alone = losses(criterion, logits, boxes, truth)
    for batch_term, term in zip(terms, alone, strict=True):
        torch.testing.assert_close(batch_term, term)


def test_each_layer_has_the_loss_it_would_have_alone(criterion: SetCriterion):
    logits, boxes, truth = random_batch([2, 0, 3], layers=3)
    terms = losses(criterion, logits, boxes, truth)
    for layer in range(3):
        alone = losses(criterion, logits[layer : layer + 1], boxes[layer : layer + 1], truth)
        for term, own in zip(terms, alone, strict=True):
            torch.testing.assert_close(term[layer], own[0])


def test_box_losses_are_those_of_the_matched_pairs(criterion: SetCriterion):
    logits, boxes, truth = random_batch([2, 3], layers=1)
    indices = criterion.matcher(logits, boxes, truth)
    predicted = boxes[0, indices.batch, indices.query]
    wanted = truth.boxes_cxcywh[indices.batch, indices.target]
    overlaps = generalized_box_iou(box_convert(predicted, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"))
    terms = losses(criterion, logits, boxes, truth)
    torch.testing.assert_close(terms.bbox[0], (predicted - wanted).abs().sum() / 5)
    torch.testing.assert_close(terms.giou[0], (1 - overlaps.diag()).sum() / 5)


def test_perfect_predictions_cost_nothing(criterion: SetCriterion):
    _, _, truth = random_batch([3])
    boxes = truth.boxes_cxcywh[None].clone()
    logits = torch.full((1, 1, 3, 3), -40.0).scatter(-1, truth.labels[None, :, :, None], 40.0)
    terms = losses(criterion, logits, boxes, truth)
    torch.testing.assert_close(torch.cat(list(terms)), torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("counts", [[0, 0], [0], [0, 3, 0]])
def test_images_without_boxes_give_finite_losses_and_gradients(criterion: SetCriterion, counts: list[int]):
    logits, boxes, truth = random_batch(counts)
    logits.requires_grad_()
    boxes.requires_grad_()
    losses(criterion, logits, boxes, truth).total(LossConfig()).backward()
    assert logits.grad.isfinite().all()
    assert boxes.grad.isfinite().all()
    empty = torch.tensor(counts) == 0
    assert (logits.grad[:, empty] > 0).all()  # every class is pushed down
    assert (boxes.grad[:, empty] == 0).all()
    assert (boxes.grad != 0).any() == (sum(counts) > 0)


@pytest.mark.parametrize("where", ["logits", "boxes"])
@pytest.mark.parametrize("counts", [[0, 0], [2, 1]], ids=["no boxes", "boxes"])
def test_predictions_that_are_not_finite_are_reported(criterion: SetCriterion, counts: list[int], where: str):
    logits, boxes, truth = random_batch(counts)
    {"logits": logits, "boxes": boxes}[where][0, 0, 1, 0] = math.nan
    with pytest.raises(FloatingPointError, match="training diverged"):
        criterion(DecoderOutput(logits, boxes, {}), truth)


def test_divergence_on_one_process_is_reported_on_all(criterion: SetCriterion):
    logits, boxes, truth = random_batch([2, 0])

    def average_with_nan(value: torch.Tensor) -> torch.Tensor:
        return (value + math.nan) / 2

    with pytest.raises(FloatingPointError, match="training diverged"):
        criterion(DecoderOutput(logits, boxes, {}), truth, average=average_with_nan)


def test_a_batch_without_boxes_is_normalised_by_one(criterion: SetCriterion):
    _, boxes, truth = random_batch([0], layers=1, queries=2)
    terms = losses(criterion, torch.full((1, 1, 2, 3), 0.5), boxes, truth)
    torch.testing.assert_close(terms.classification, torch.tensor([6 * focal(0.5, 0)]))


def test_order_of_boxes_does_not_matter(criterion: SetCriterion):
    logits, boxes, truth = random_batch([4])
    order = [2, 0, 3, 1]
    shuffled = Targets(truth.boxes_cxcywh[:, order], truth.labels[:, order], truth.valid)
    for term, permuted in zip(
        losses(criterion, logits, boxes, truth), losses(criterion, logits, boxes, shuffled), strict=True
    ):
        torch.testing.assert_close(term, permuted)


def test_padding_does_not_matter(criterion: SetCriterion):
    logits, boxes, truth = random_batch([2, 4])
    junk = Targets(
        torch.where(truth.valid[..., None], truth.boxes_cxcywh, 0.3),
        torch.where(truth.valid, truth.labels, 2),
        truth.valid,
    )
    for term, padded in zip(
        losses(criterion, logits, boxes, truth), losses(criterion, logits, boxes, junk), strict=True
    ):
        torch.testing.assert_close(term, padded)


def test_settings_reach_the_matcher_and_the_focal_loss():
    config = Config().replace(
        set_cost_class=1.5,
        set_cost_bbox=2.5,
        set_cost_giou=3.5,
        set_cost_quality=0.7,
        focal_alpha=0.4,
        focal_gamma=1.0,
    )
    criterion = build_criterion(config)
    matcher = criterion.matcher
    assert matcher.costs == config.matching
    assert (matcher.focal_alpha, matcher.focal_gamma) == (0.4, 1.0)
    assert criterion.config == config.losses


COUNTS = [3, 1, 0, 5]
"""boxes of the four images of the distributed test: the first process gets 4, the second 5"""


def gradient_of_shared_weights(images: slice) -> Tensor:
    """Return the gradient of some of the images for weights that all images share.

    The losses are the decoder's losses, the losses of two further groups of queries, and the losses of given indices.
    """
    logits, boxes, truth = random_batch(COUNTS, seed=3)
    more_logits, more_boxes, _ = random_batch(COUNTS, layers=4, seed=4)
    weights = torch.zeros(7, requires_grad=True)
    logits, more_logits = logits + weights[:3], more_logits + weights[:3]
    boxes, more_boxes = boxes + weights[3:], more_boxes + weights[3:]
    known = [(layer, image, query) for layer in range(2) for image in (1, 3) for query in range(min(COUNTS[image], 2))]
    here = [(layer, image - images.start, query, query) for layer, image, query in known if image in range(4)[images]]
    indices = MatchedIndices(*torch.tensor(here).T)
    auxiliary = {
        "groups": AuxiliaryOutput(more_logits[:, images], more_boxes[:, images], num_groups=2),
        "denoising": AuxiliaryOutput(logits[:, images], boxes[:, images], indices=indices),
    }
    criterion = build_criterion(Config().replace(classification_loss="focal"))
    output = DecoderOutput(logits[:, images], boxes[:, images], auxiliary)
    criterion(output, rows(truth, images)).total.backward()
    return weights.grad


def gradient_in_one_of_two_processes(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    gradient = gradient_of_shared_weights(slice(0, 2) if rank == 0 else slice(2, 4))
    torch.save(gradient, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_gradient_averaged_over_processes_equals_that_of_one_process(tmp_path: Path):
    processes = {"nprocs": 2, "start_method": "fork"}  # forks have the libraries imported
    torch.multiprocessing.start_processes(gradient_in_one_of_two_processes, args=(str(tmp_path),), **processes)
    gradients = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(sum(gradients) / 2, gradient_of_shared_weights(slice(0, 4)))
    assert not torch.allclose(*gradients)
