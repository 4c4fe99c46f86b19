"""Set criterion: the losses of matched and unmatched queries in every decoder layer.

The total loss is a weighted sum over the decoder layers, plus the same sum for each auxiliary output::

    total = sum over layers of (w_class * classification + w_bbox * L1 + w_giou * (1 - GIoU)) / num_boxes
          + losses of the proposals, the denoising queries and the further query groups

The weights are the settings ``loss_weight_class``, ``loss_weight_bbox`` and ``loss_weight_giou``.
``num_boxes`` is the number of boxes in the batch, averaged over the processes of a distributed run, and at least 1.
DDP averages gradients over the processes, so the gradient equals the gradient of one process with all the images.

Source: Carion et al., "DETR", https://arxiv.org/abs/2005.12872, section 3.1. `dino_detector.structures.targets`
explains the symbols of shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from dino_detector.config import Config, LossConfig
from dino_detector.matching import HungarianMatcher
from dino_detector.structures.boxes import generalized_iou, iou
from dino_detector.structures.predictions import AuxiliaryOutput, DecoderOutput, MatchedIndices
from dino_detector.structures.targets import Targets


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a scalar over the processes of a distributed run; a single process returns the value."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()


class LossTerms(NamedTuple):
    """Loss terms of each decoder layer.

    Attributes:
        classification: ``[L]``, loss of all queries and classes.
        bbox: ``[L]``, L1 distance of the matched boxes, as fractions of the image.
        giou: ``[L]``, 1 - generalized IoU of the matched boxes.
    """

    classification: Tensor
    bbox: Tensor
    giou: Tensor

    def weighted(self, weights: LossConfig) -> LossTerms:
        """Return each term times its weight."""
        return LossTerms(
            weights.loss_weight_class * self.classification,
            weights.loss_weight_bbox * self.bbox,
            weights.loss_weight_giou * self.giou,
        )

    def total(self, weights: LossConfig) -> Tensor:
        """Return the weighted sum over terms and layers, a scalar."""
        return sum(self.weighted(weights)).sum()


class Losses(NamedTuple):
    """Losses of a batch.

    Attributes:
        total: the weighted sum of all losses, a scalar.
        terms: unweighted terms of the decoder layers.
        auxiliary: weighted loss of each auxiliary output, a scalar by name.
        indices: matched indices of the decoder layers.
    """

    total: Tensor
    terms: LossTerms
    auxiliary: dict[str, Tensor]
    indices: MatchedIndices


class SetCriterion:
    """Match predictions to targets and compute their losses.

    Args:
        matcher: finds the matched indices.
        config: weights of the loss terms, and the kind of classification loss.
    """

    def __init__(self, matcher: HungarianMatcher, config: LossConfig) -> None:
        self.matcher = matcher
        self.config = config

    def __call__(
        self,
        output: DecoderOutput,
        targets: Targets,
        *,
        average: Callable[[Tensor], Tensor] = mean_over_processes,
    ) -> Losses:
        """Compute the losses of a batch; all processes of a distributed run call this together.

        Args:
            output: predictions of B images.
            targets: ground truth of the B images.
            average: mean of a scalar over the processes.

        Raises:
            FloatingPointError: a prediction of any process is not finite.
        """
        logits, boxes = output.logits, output.boxes_cxcywh
        # A prediction that is not finite makes num_boxes NaN on all processes, so that all of them stop.
        nan_if_diverged = 0 * (logits.detach().float().sum() + boxes.detach().float().sum())
        num_boxes = average(targets.valid.sum() + nan_if_diverged).clamp(min=1)
        indices = self.matcher(logits, boxes, targets, must_be_finite=num_boxes)
        sums = self.loss_sums(logits, boxes[indices.predictions], targets, indices)
        terms = LossTerms(*(term / num_boxes for term in sums))
        auxiliary = {
            name: self.auxiliary_loss(each, targets, num_boxes=num_boxes, average=average)
            for name, each in output.auxiliary.items()
        }
        return Losses(terms.total(self.config) + sum(auxiliary.values()), terms, auxiliary, indices)

    def auxiliary_loss(
        self, output: AuxiliaryOutput, targets: Targets, *, num_boxes: Tensor, average: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the weighted loss of an auxiliary output, a scalar.

        If the output has its own matched indices, divide the loss by their number in a layer: denoising queries repeat
        boxes, and may leave out some.
        """
        indices, normalizer = output.indices, num_boxes * output.num_groups
        if indices is None:
            indices = self.matcher(output.logits, output.boxes_cxcywh, targets)
        else:
            pairs_per_layer = len(indices.layer) / len(output.logits)
            normalizer = average(torch.full((), pairs_per_layer, device=output.logits.device)).clamp(min=1)
        boxes = output.matched_boxes(indices)
        sums = self.loss_sums(output.logits, boxes, targets, indices, query_mask=output.query_mask)
        return sums.total(self.config) / normalizer

    def loss_sums(
        self,
        logits: Tensor,
        matched_boxes: Tensor,
        targets: Targets,
        indices: MatchedIndices,
        *,
        query_mask: Tensor | None = None,
    ) -> LossTerms:
        """Return the unweighted terms of each layer, not yet divided by the number of boxes.

        Args:
            logits: ``[L, B, Q, C]``.
            matched_boxes: ``[M, 4]`` cxcywh in 0..1, boxes of the matched queries.
            targets: ground truth of the B images.
            indices: the M matched pairs.
            query_mask: ``[B, Q]`` bool, queries that have a classification loss; None means all.
        """
        logits, predicted = logits.float(), matched_boxes.float()
        wanted = targets.boxes_cxcywh[indices.targets].float()  # [M, 4]
        l1 = F.l1_loss(predicted, wanted, reduction="none").sum(1)  # [M]
        predicted, wanted = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (predicted, wanted))
        classification = classification_losses(
            logits,
            (*indices.predictions, targets.labels[indices.targets]),
            ious=iou(predicted, wanted).detach(),
            kind=self.config.classification_loss,
            focal_alpha=self.config.focal_alpha,
            focal_gamma=self.config.focal_gamma,
        )  # [L, B, Q, C]
        if query_mask is not None:
            classification = classification * query_mask[None, :, :, None]
        zeros = logits.new_zeros(len(logits))
        return LossTerms(
            classification=classification.sum((1, 2, 3)),
            bbox=zeros.index_add(0, indices.layer, l1),
            giou=zeros.index_add(0, indices.layer, 1 - generalized_iou(predicted, wanted)),
        )


def classification_losses(
    logits: Tensor,
    matched: tuple[Tensor, ...],
    *,
    ious: Tensor,
    kind: str,
    focal_alpha: float,
    focal_gamma: float,
) -> Tensor:
    """Return the sigmoid classification loss of each query and class.

    With score p, IoU u of the matched boxes, a = ``focal_alpha`` and g = ``focal_gamma``:

    ============================  ===============================================  ===========================
    kind                          positive: matched query and class of its box     negative: all others
    ============================  ===============================================  ===========================
    ``focal``                     a (1 - p)^g BCE(p, 1)                            (1 - a) p^g BCE(p, 0)
    ``varifocal``                 u BCE(p, u)                                      0.75 p^2 BCE(p, 0)
    ``iou_aware``                 BCE(p, t), t = p^0.25 u^0.75                     p^2 BCE(p, 0)
    ``matchability_aware``        BCE(p, u^1.5)                                    p^1.5 BCE(p, 0)
    ============================  ===============================================  ===========================

    Sources: focal, Lin et al., https://arxiv.org/abs/1708.02002; varifocal, Zhang et al.,
    https://arxiv.org/abs/2008.13367, as in RT-DETR, https://arxiv.org/abs/2304.08069; IoU-aware, Cai et al.,
    "Align-DETR", https://arxiv.org/abs/2304.07527, as in LW-DETR, https://arxiv.org/abs/2406.03459;
    matchability-aware, Huang et al., "DEIM", https://arxiv.org/abs/2412.04234.

    Args:
        logits: ``[L, B, Q, C]``.
        matched: layer, image, query and class of the M matched pairs, ``[M]`` int64 each.
        ious: ``[M]``, IoU of the matched boxes in 0..1, without gradient.
        kind: a name of the table.
        focal_alpha: weight of positives in ``focal``.
        focal_gamma: focusing exponent of ``focal``.

    Returns:
        ``[L, B, Q, C]``.
    """
    if kind == "focal":
        # Almost every entry is a negative: compute the negative loss everywhere, then overwrite the positives.
        negative = (1 - focal_alpha) * logits.sigmoid() ** focal_gamma * F.softplus(logits)
        logits = logits[matched]
        positive = focal_alpha * (-logits).sigmoid() ** focal_gamma * F.softplus(-logits)
        return negative.index_put(matched, positive)
    scores = logits.detach().sigmoid()
    if kind == "varifocal":
        goals, positive_weights, negative_weights = ious, ious, 0.75 * scores**2
    elif kind == "iou_aware":
        goals = (scores[matched] ** 0.25 * ious**0.75).clamp(min=0.01)
        positive_weights, negative_weights = torch.ones_like(ious), scores**2
    else:
        goals, positive_weights, negative_weights = ious**1.5, torch.ones_like(ious), scores**1.5
    goals = torch.zeros_like(logits).index_put(matched, goals)
    weights = negative_weights.index_put(matched, positive_weights)
    return weights * F.binary_cross_entropy_with_logits(logits, goals, reduction="none")


def build_criterion(config: Config) -> SetCriterion:
    """Build the criterion of a config."""
    return SetCriterion(HungarianMatcher(config.matching, config.losses), config.losses)
