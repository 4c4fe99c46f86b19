"""The set criterion: what the matched and the unmatched queries of every decoder layer cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dino_detector.config import Config, LossConfig
from dino_detector.matching import HungarianMatcher
from dino_detector.structures.boxes import cxcywh_to_xyxy, generalized_iou, iou
from dino_detector.structures.matches import Matches, Supervised
from dino_detector.structures.targets import Targets


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a scalar over the processes of a distributed run; the value itself elsewhere."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()


class LossTerms(NamedTuple):
    """Losses of each decoder layer.

    Attributes:
        classification: ``[L]``, loss of all queries and classes.
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


class Losses(NamedTuple):
    """All losses of a batch.

    Attributes:
        terms: of the decoder layers, unweighted.
        auxiliary: the weighted loss of each kind of predictions that exist in training only, scalars by name.
        matches: the pairs behind ``terms``.
    """

    terms: LossTerms
    auxiliary: dict[str, Tensor]
    matches: Matches

    def total(self, weights: LossConfig) -> Tensor:
        """The loss, a scalar."""
        return self.terms.total(weights) + sum(self.auxiliary.values())


class SetCriterion:
    """Measures classification and boxes of matched predictions, layer by layer.

    Sums are divided by the boxes of the batch averaged over all processes (at least 1), so that the gradient, which
    DDP averages over processes, is that of one process with all the images.

    Args:
        matcher: finds the pairs.
        classification_loss: how scores are learned, see `classification_losses`.
        focal_alpha: weight of positives in the focal loss.
        focal_gamma: its focusing exponent.
    """

    def __init__(
        self, *, matcher: HungarianMatcher, classification_loss: str, focal_alpha: float, focal_gamma: float
    ) -> None:
        self.matcher = matcher
        self.classification_loss = classification_loss
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    def of_batch(
        self,
        logits: Tensor,
        boxes_cxcywh: Tensor,
        auxiliary: Mapping[str, Supervised],
        targets: Targets,
        *,
        weights: LossConfig,
        average: Callable[[Tensor], Tensor] = mean_over_processes,
    ) -> Losses:
        """Match and measure everything that a step predicts; all processes call it together.

        Args:
            logits: ``[L, B, Q, C]``.
            boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
            auxiliary: what else is to be learned from, by name.
            targets: ground truth of the B images.
            weights: of the terms.
            average: mean of a scalar over the processes.
        """
        # Not finite on every process where a prediction of any is not, so that all of them end, also without boxes.
        finite = 0 * (logits.detach().float().sum() + boxes_cxcywh.detach().float().sum())
        num_boxes = average(targets.valid.sum() + finite).clamp(min=1)
        matches = self.matcher(logits, boxes_cxcywh, targets, checked=num_boxes)
        terms = self.sums(logits, boxes_cxcywh, targets, matches)
        others = {}
        for name, supervised in auxiliary.items():
            pairs, count = supervised.matches, num_boxes * supervised.copies
            if pairs is None:
                pairs = self.matcher(supervised.logits, supervised.boxes_cxcywh, targets)
            else:  # they may be of some of the boxes only
                in_a_layer = torch.full((), len(pairs.layer) / len(supervised.logits), device=logits.device)
                count = average(in_a_layer).clamp(min=1)
            sums = self.sums(
                supervised.logits,
                supervised.boxes_cxcywh,
                targets,
                pairs,
                counted=supervised.counted,
                boxes_of=supervised.boxes_of,
            )
            others[name] = sums.total(weights) / count
        return Losses(LossTerms(*(term / num_boxes for term in terms)), others, matches)

    def sums(
        self,
        logits: Tensor,
        boxes_cxcywh: Tensor,
        targets: Targets,
        matches: Matches,
        *,
        counted: Tensor | None = None,
        boxes_of: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> LossTerms:
        """The unweighted losses of a batch, not yet divided by its number of boxes.

        Args:
            logits: ``[L, B, Q, C]``.
            boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
            targets: ground truth of the B images.
            matches: which queries stand for which boxes.
            counted: ``[B, Q]`` bool, the queries whose classification counts; None counts all.
            boxes_of: where ``boxes_cxcywh`` has no gradient, makes boxes that have, see `Supervised`.
        """
        logits = logits.float()
        if boxes_of is None:
            predicted = boxes_cxcywh[matches.layer, matches.image, matches.query].float()  # [M, 4]
        else:
            predicted = boxes_of(matches.image, matches.query).float()
        wanted = targets.boxes_cxcywh[matches.image, matches.target].float()  # [M, 4]
        distances = F.l1_loss(predicted, wanted, reduction="none").sum(1)
        predicted, wanted = cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted)
        zeros = logits.new_zeros(len(logits))
        labels = targets.labels[matches.image, matches.target]  # [M]
        places = (matches.layer, matches.image, matches.query, labels)
        losses = classification_losses(
            logits,
            places,
            overlaps=iou(predicted, wanted).detach(),
            kind=self.classification_loss,
            focal_alpha=self.focal_alpha,
            focal_gamma=self.focal_gamma,
        )
        if counted is not None:
            losses = losses * counted[None, :, :, None]
        return LossTerms(
            classification=losses.sum((1, 2, 3)),
            bbox=zeros.index_add(0, matches.layer, distances),
            giou=zeros.index_add(0, matches.layer, 1 - generalized_iou(predicted, wanted)),
        )


def classification_losses(
    logits: Tensor,
    places: tuple[Tensor, ...],
    *,
    overlaps: Tensor,
    kind: str,
    focal_alpha: float,
    focal_gamma: float,
) -> Tensor:
    """Loss of each query and class, with sigmoid and no background class.

    ============================  ===============================================  ===========================
    kind                          a matched query, its class; p score, u IoU       all others
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
        places: layer, image, query and class of the M matched pairs, ``[M]`` int64 each.
        overlaps: ``[M]``, IoU of the matched boxes in 0..1, without gradient.
        kind: a name of the table.
        focal_alpha: a, weight of positives in ``focal``.
        focal_gamma: g, exponent of ``focal``.

    Returns:
        ``[L, B, Q, C]``.
    """
    if kind == "focal":
        # Of nearly all it is the loss of no object, so that it is made of all, without a table of what is wanted.
        found = logits[places]
        losses = (1 - focal_alpha) * logits.sigmoid() ** focal_gamma * F.softplus(logits)
        return losses.index_put(places, focal_alpha * (-found).sigmoid() ** focal_gamma * F.softplus(-found))
    scores = logits.detach().sigmoid()
    if kind == "varifocal":
        wanted, weights, others = overlaps, overlaps, 0.75 * scores**2
    elif kind == "iou_aware":
        wanted = (scores[places] ** 0.25 * overlaps**0.75).clamp(min=0.01)
        weights, others = torch.ones_like(overlaps), scores**2
    else:
        wanted, weights, others = overlaps**1.5, torch.ones_like(overlaps), scores**1.5
    wanted = torch.zeros_like(logits).index_put(places, wanted)
    weights = others.index_put(places, weights)
    return weights * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def build_criterion(config: Config) -> SetCriterion:
    """The criterion that a config asks for."""
    losses, matching = config.losses, config.matching
    focal = {"focal_alpha": losses.focal_alpha, "focal_gamma": losses.focal_gamma}
    matcher = HungarianMatcher(
        cost_class=matching.set_cost_class,
        cost_bbox=matching.set_cost_bbox,
        cost_giou=matching.set_cost_giou,
        quality=matching.set_cost_quality,
        **focal,
    )
    return SetCriterion(matcher=matcher, classification_loss=losses.classification_loss, **focal)
