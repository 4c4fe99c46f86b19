from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from dino_detector.config import LossConfig, MatchingConfig
from dino_detector.matching import HungarianMatcher
from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets


@pytest.fixture
def matcher() -> HungarianMatcher:
    return HungarianMatcher(MatchingConfig(2.0, 5.0, 2.0, set_cost_quality=0.0), LossConfig(focal_alpha=0.25))


def random_boxes(count: int) -> Tensor:
    return torch.rand(count, 4) * 0.4 + 0.1


def random_targets(counts: list[int], classes: int = 3) -> Targets:
    return Targets.pad(
        [random_boxes(count) for count in counts], [torch.randint(classes, (count,)) for count in counts]
    )


def random_predictions(layers: int, images: int, queries: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    logits = torch.randn(layers, images, queries, classes)
    return logits, random_boxes(layers * images * queries).view(layers, images, queries, 4)


def pairs(indices: MatchedIndices, layer: int, image: int) -> set[tuple[int, int]]:
    """Return the (query, target) pairs of one layer and image."""
    here = (indices.layer == layer) & (indices.batch == image)
    return set(zip(indices.query[here].tolist(), indices.target[here].tolist(), strict=True))


def reference_costs(logits: Tensor, boxes: Tensor, wanted_boxes: Tensor, wanted_labels: Tensor) -> Tensor:
    """Return the costs ``[Q, N]`` by the formulas of the papers, with torchvision's generalized IoU."""
    probability = logits.sigmoid()[:, wanted_labels]
    positive = 0.25 * (1 - probability) ** 2 * -probability.log()
    negative = 0.75 * probability**2 * -(1 - probability).log()
    distance = torch.cdist(boxes, wanted_boxes, p=1)
    overlap = generalized_box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(wanted_boxes, "cxcywh", "xyxy"))
    return 2 * (positive - negative) + 5 * distance - 2 * overlap


def cheapest_pairs(costs: Tensor) -> set[tuple[int, int]]:
    """Search every assignment of ``min(Q, N)`` pairs."""
    queries, targets = costs.shape
    if queries >= targets:
        options = [
            list(zip(chosen, range(targets), strict=True)) for chosen in itertools.permutations(range(queries), targets)
        ]
    else:
        options = [
            list(zip(range(queries), chosen, strict=True)) for chosen in itertools.permutations(range(targets), queries)
        ]
    return set(min(options, key=lambda option: sum(costs[pair].item() for pair in option)))


def test_cost_of_one_pair_equals_the_value_worked_out_by_hand(matcher: HungarianMatcher):
    targets = Targets.pad([torch.tensor([[0.6, 0.5, 0.4, 0.4]])], [torch.tensor([1])])
    logits = torch.tensor([[[[3.0, 0.0]]]])
    costs = matcher.cost_matrix(logits, torch.tensor([[[[0.5, 0.5, 0.4, 0.4]]]]), targets)
    # probability 1/2: (0.25 - 0.75) * 1/4 * ln 2; L1 0.1; IoU 0.12 / 0.20, and the hull equals the union
    expected = 2 * (-0.125 * math.log(2)) + 5 * 0.1 - 2 * 0.6
    torch.testing.assert_close(costs, torch.tensor([[[[expected]]]]))


def test_the_overlap_multiplies_the_score():
    matcher = HungarianMatcher(MatchingConfig(1.0, 0.0, 0.0, set_cost_quality=0.5), LossConfig(focal_alpha=0.25))
    targets = Targets.pad([torch.tensor([[0.6, 0.5, 0.4, 0.4]])], [torch.tensor([1])])
    cost = matcher.cost_matrix(torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[0.5, 0.5, 0.4, 0.4]]]]), targets)
    score = 0.5 * math.sqrt((1 + 0.6) / 2)  # generalized IoU 0.6, as in the test before
    expected = 0.25 * (1 - score) ** 2 * -math.log(score) - 0.75 * score**2 * -math.log(1 - score)
    torch.testing.assert_close(cost, torch.tensor([[[[expected]]]]))


@pytest.mark.parametrize(("queries", "targets"), [(4, 3), (5, 1), (3, 3), (2, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_brute_force_over_all_assignments(
    matcher: HungarianMatcher, queries: int, targets: int, seed: int
):
    torch.manual_seed(seed)
    truth = random_targets([targets])
    logits, boxes = random_predictions(1, 1, queries)
    costs = reference_costs(logits[0, 0], boxes[0, 0], truth.boxes_cxcywh[0], truth.labels[0])
    found = pairs(matcher(logits, boxes, truth), 0, 0)
    assert found == cheapest_pairs(costs)
    assert len(found) == min(queries, targets)


def test_every_layer_and_image_is_matched_by_its_own_costs(matcher: HungarianMatcher):
    torch.manual_seed(0)
    counts = [2, 0, 3, 1]
    truth = random_targets(counts)
    logits, boxes = random_predictions(3, 4, 4)
    indices = matcher(logits, boxes, truth)
    assert len(indices.query) == 3 * sum(counts)
    for layer, image in itertools.product(range(3), range(4)):
        own = slice(0, counts[image])
        costs = reference_costs(
            logits[layer, image], boxes[layer, image], truth.boxes_cxcywh[image, own], truth.labels[image, own]
        )
        assert pairs(indices, layer, image) == cheapest_pairs(costs)


def test_a_batch_is_matched_as_each_image_alone(matcher: HungarianMatcher):
    torch.manual_seed(1)
    each = [random_targets([count]) for count in (4, 1, 0, 2)]
    together = Targets.pad([one.boxes_cxcywh[0] for one in each], [one.labels[0] for one in each])
    logits, boxes = random_predictions(2, 4, 6)
    indices = matcher(logits, boxes, together)
    for image, alone in enumerate(each):
        own = matcher(logits[:, image : image + 1], boxes[:, image : image + 1], alone)
        for layer in range(2):
            assert pairs(indices, layer, image) == pairs(own, layer, 0)


@pytest.mark.parametrize("chunk", [1, 2 * 2 * 7 * 3, 10**9], ids=["one image", "two images", "all"])
def test_it_does_not_matter_how_many_images_are_matched_together(
    matcher: HungarianMatcher, monkeypatch: pytest.MonkeyPatch, chunk: int
):
    torch.manual_seed(0)
    logits, boxes = random_predictions(2, 5, 7)
    targets = random_targets([2, 0, 3, 1, 3])
    calls = []
    cost_matrix = HungarianMatcher.cost_matrix
    monkeypatch.setattr(HungarianMatcher, "cost_matrix", lambda *of: calls.append(1) or cost_matrix(*of))
    monkeypatch.setattr("dino_detector.matching.CPU_CHUNK", chunk)
    found = matcher(logits, boxes, targets)
    assert len(calls) == {1: 5, 84: 3, 10**9: 1}[chunk]
    costs = cost_matrix(matcher, logits, boxes, targets)
    for layer, image in itertools.product(range(2), range(5)):
        count = int(targets.valid[image].sum())
        assert pairs(found, layer, image) == cheapest_pairs(costs[layer, image, :, :count])


def test_no_boxes_at_all_give_no_pairs(matcher: HungarianMatcher):
    indices = matcher(*random_predictions(2, 3, 4), random_targets([0, 0, 0]))
    assert [len(column) for column in indices] == [0, 0, 0, 0]
    assert all(column.dtype == torch.int64 for column in indices)


def test_more_boxes_than_queries_use_every_query_once(matcher: HungarianMatcher):
    indices = matcher(*random_predictions(2, 1, 3), random_targets([8]))
    for layer in range(2):
        found = pairs(indices, layer, 0)
        assert {query for query, _ in found} == {0, 1, 2}
        assert len({target for _, target in found}) == 3


def test_order_of_boxes_does_not_matter(matcher: HungarianMatcher):
    torch.manual_seed(2)
    truth = random_targets([5])
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = Targets(truth.boxes_cxcywh[:, order], truth.labels[:, order], truth.valid)
    logits, boxes = random_predictions(2, 1, 7)
    plain, permuted = matcher(logits, boxes, truth), matcher(logits, boxes, shuffled)
    for layer in range(2):
        assert {(query, order[target].item()) for query, target in pairs(permuted, layer, 0)} == pairs(plain, layer, 0)


def test_content_of_padding_does_not_matter(matcher: HungarianMatcher):
    torch.manual_seed(3)
    truth = random_targets([1, 4, 0])
    logits, boxes = random_predictions(2, 3, 5)
    boxes_of_junk = torch.where(truth.valid[..., None], truth.boxes_cxcywh, boxes[0, :, :4])
    junk = Targets(boxes_of_junk, torch.where(truth.valid, truth.labels, 2), truth.valid)
    plain, padded = matcher(logits, boxes, truth), matcher(logits, boxes, junk)
    assert all(torch.equal(*columns) for columns in zip(plain, padded, strict=True))


def test_whole_batch_of_all_layers_is_one_copy_to_the_host(matcher: HungarianMatcher, monkeypatch: pytest.MonkeyPatch):
    reads = []

    def counted(name: str) -> None:
        original = getattr(Tensor, name)

        def read(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, read)

    logits, boxes = random_predictions(3, 4, 5)
    truth = random_targets([2, 3, 0, 1])
    for name in ("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero"):
        counted(name)
    matcher(logits, boxes, truth)
    assert reads == ["cpu"]


@pytest.mark.parametrize(
    ("where", "value"), [("logits", math.nan), ("logits", -math.inf), ("boxes", math.nan), ("boxes", math.inf)]
)
def test_predictions_that_are_not_finite_are_reported(matcher: HungarianMatcher, where: str, value: float):
    logits, boxes = random_predictions(1, 2, 3)
    {"logits": logits, "boxes": boxes}[where][0, 1, 2] = value
    with pytest.raises(FloatingPointError, match="not finite: training diverged"):
        matcher(logits, boxes, random_targets([1, 2]))


def test_half_precision_is_matched_in_full_precision(matcher: HungarianMatcher):
    torch.manual_seed(4)
    truth = random_targets([3])
    logits, boxes = (values.bfloat16() for values in random_predictions(1, 1, 5))
    costs = reference_costs(logits[0, 0].float(), boxes[0, 0].float(), truth.boxes_cxcywh[0], truth.labels[0])
    assert pairs(matcher(logits, boxes, truth), 0, 0) == cheapest_pairs(costs)


def test_matching_takes_no_gradient(matcher: HungarianMatcher):
    logits, boxes = random_predictions(1, 1, 3)
    indices = matcher(logits.requires_grad_(), boxes.requires_grad_(), random_targets([2]))
    assert not any(column.requires_grad for column in indices)
