"""The set criterion: what the matched and the unmatched queries of every decoder layer cost."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from dino_detector.boxes import cxcywh_to_xyxy, generalized_iou
from dino_detector.config import Config, LossConfig
from dino_detector.matching import HungarianMatcher, Matches
from dino_detector.targets import Targets


class LossTerms(NamedTuple):
    """Losses of each decoder layer.

    Attributes:
        classification: ``[L]``, focal loss of all queries and classes.
        bbox: ``[L]``, L1 distance of the matched boxes, as fractions of the image.
        giou: ``[L]``, 1 - generalized IoU of the matched boxes.
    """

    classification: Tensor
    bbox: Tensor
    giou: Tensor

    def weighted(self, weights: LossConfig) -> LossTerms:
        """Each term times its weight."""
        return LossTerms(
            weights.loss_weight_class * self.classification,
            weights.loss_weight_bbox * self.bbox,
            weights.loss_weight_giou * self.giou,
        )

    def total(self, weights: LossConfig) -> Tensor:
        """The weighted sum over terms and layers, a scalar."""
        return sum(self.weighted(weights)).sum()


class SetCriterion:
    """Measures classification and boxes of matched predictions, layer by layer.

    Classification is the focal loss of Lin et al., https://arxiv.org/abs/1708.02002, with sigmoid and no background
    class. Sums are divided by the boxes of the batch averaged over all processes (at least 1), so that the gradient,
    which DDP averages over processes, is that of one process with all the images.
    """

    def __init__(self, *, matcher: HungarianMatcher, focal_alpha: float, focal_gamma: float) -> None:
        self.matcher = matcher
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    def __call__(self, logits: Tensor, boxes_cxcywh: Tensor, targets: Targets, matches: Matches) -> LossTerms:
        """The unweighted losses of a batch, normalised by its number of boxes; all processes call it together.

        Args:
            logits: ``[L, B, Q, C]``.
            boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
            targets: ground truth of the B images.
            matches: of ``matcher`` for these predictions and targets.
        """
        num_boxes = mean_over_processes(targets.valid.sum().float()).clamp(min=1)
        return LossTerms(*(term / num_boxes for term in self.sums(logits, boxes_cxcywh, targets, matches)))

    def sums(self, logits: Tensor, boxes_cxcywh: Tensor, targets: Targets, matches: Matches) -> LossTerms:
        """The unweighted losses of a batch, not yet divided by its number of boxes; arguments as in a call."""
        return LossTerms(
            classification=self.classification(logits.float(), targets, matches),
            **self.boxes(boxes_cxcywh.float(), targets, matches),
        )

    def classification(self, logits: Tensor, targets: Targets, matches: Matches) -> Tensor:
        """Focal loss summed over images, queries and classes, ``[L]``."""
        wanted = torch.zeros_like(logits)  # [L, B, Q, C]
        labels = targets.labels[matches.image, matches.target]  # [M]
        wanted[matches.layer, matches.image, matches.query, labels] = 1
        losses = sigmoid_focal_loss(logits, wanted, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return losses.sum((1, 2, 3))

    def boxes(self, boxes_cxcywh: Tensor, targets: Targets, matches: Matches) -> dict[str, Tensor]:
        """L1 and generalized IoU losses summed over the matched pairs, ``[L]`` each."""
        predicted = boxes_cxcywh[matches.layer, matches.image, matches.query]  # [M, 4]
        wanted = targets.boxes_cxcywh[matches.image, matches.target]  # [M, 4]
        per_pair = {
            "bbox": F.l1_loss(predicted, wanted, reduction="none").sum(1),
            "giou": 1 - generalized_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted)),
        }
        zeros = boxes_cxcywh.new_zeros(len(boxes_cxcywh))
        return {name: zeros.index_add(0, matches.layer, losses) for name, losses in per_pair.items()}


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a scalar over the processes of a distributed run; the value itself elsewhere."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()


def build_criterion(config: Config) -> SetCriterion:
    """The criterion that a config asks for."""
    focal = {"focal_alpha": config.losses.focal_alpha, "focal_gamma": config.losses.focal_gamma}
    matcher = HungarianMatcher(
        cost_class=config.matching.set_cost_class,
        cost_bbox=config.matching.set_cost_bbox,
        cost_giou=config.matching.set_cost_giou,
        **focal,
    )
    return SetCriterion(matcher=matcher, **focal)
