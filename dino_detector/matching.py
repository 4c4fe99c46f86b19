"""Hungarian matching of queries to ground truth.

Source: Carion et al., "End-to-End Object Detection with Transformers", https://arxiv.org/abs/2005.12872, section 3.1;
the focal classification cost is that of Zhu et al., "Deformable DETR", https://arxiv.org/abs/2010.04159.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from dino_detector.structures.boxes import cxcywh_to_xyxy, generalized_iou
from dino_detector.structures.matches import Matches
from dino_detector.structures.targets import Targets

PAIRS_AT_ONCE = 2**20
"""whose costs a CPU computes together: what comes between fits into its cache"""


class HungarianMatcher:
    """Assigns each ground truth box the query that is cheapest over the whole image.

    The cost of a pair is a weighted sum of the focal loss that labelling the query would save, the L1 distance of
    the boxes, and their negative generalized IoU.

    Args:
        cost_class: weight of the classification cost.
        cost_bbox: weight of the L1 distance.
        cost_giou: weight of the generalized IoU.
        quality: the score of a query counts times its overlap with the box, (1 + GIoU) / 2, to this power; 0 ignores
            the overlap. Source: Liu et al., "Detection Transformer with Stable Matching",
            https://arxiv.org/abs/2304.04742, section 3.3, with 0.5.
        focal_alpha: weight of positives in the focal loss.
        focal_gamma: its focusing exponent.
    """

    def __init__(
        self,
        *,
        cost_class: float,
        cost_bbox: float,
        cost_giou: float,
        quality: float,
        focal_alpha: float,
        focal_gamma: float,
    ) -> None:
        self.cost_class = cost_class
        self.cost_bbox = cost_bbox
        self.cost_giou = cost_giou
        self.quality = quality
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, boxes_cxcywh: Tensor, targets: Targets, *, checked: Tensor | None = None
    ) -> Matches:
        """Match all layers and images: one cost tensor ``[L, B, Q, T]``, one copy from device to host.

        Args:
            logits: ``[L, B, Q, C]``.
            boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
            targets: ground truth of the B images.
            checked: a scalar that has to be finite too; it comes with the copy.

        Raises:
            FloatingPointError: where it or the costs are not finite, as after a diverged step.
        """
        device = logits.device
        pairs = len(logits) * logits.shape[2] * targets.valid.shape[1]
        costs = torch.cat(
            [
                self.pair_costs(logits[:, part], boxes_cxcywh[:, part], Targets(*(values[part] for values in targets)))
                for part in _parts(len(targets.valid), pairs=pairs, device=device)
            ],
            dim=1,
        )
        counts = targets.valid.sum(1)  # [B]
        beside = [] if checked is None else [checked.to(costs.dtype)[None]]
        packed = torch.cat([costs.flatten(), counts.to(costs.dtype), *beside]).cpu().numpy()
        costs_host = packed[: costs.numel()].reshape(costs.shape)
        if not np.isfinite(packed).all():
            raise FloatingPointError("the predictions are not finite: training diverged")
        counts_host = packed[costs.numel() :][: len(counts)].astype(np.int64)
        pairs = []
        for layer, image in np.ndindex(costs_host.shape[:2]):
            query, target = linear_sum_assignment(costs_host[layer, image, :, : counts_host[image]])
            pairs.append(np.stack([np.full_like(query, layer), np.full_like(query, image), query, target]))
        return Matches(*torch.from_numpy(np.concatenate(pairs, axis=1)).to(device))

    def pair_costs(self, logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> Tensor:
        """Cost of every query with every target of its image, ``[L, B, Q, T]``; padding costs are meaningless."""
        layers, _, queries, _ = logits.shape
        predicted = boxes_cxcywh.float()  # [L, B, Q, 4]
        wanted = targets.boxes_cxcywh.float()[None].expand(layers, -1, -1, -1)  # [L, B, T, 4]
        cost_bbox = torch.cdist(predicted, wanted, p=1)
        overlap = generalized_iou(
            cxcywh_to_xyxy(predicted)[:, :, :, None], cxcywh_to_xyxy(wanted)[:, :, None]
        )  # [L, B, Q, T]
        labels = targets.labels[None, :, None].expand(layers, -1, queries, -1)  # [L, B, Q, T]
        if self.quality:
            scores = logits.float().sigmoid().gather(-1, labels) * ((1 + overlap) / 2) ** self.quality
            cost_class = self._saved(scores.clamp(1e-8, 1 - 1e-6).logit())
        elif labels.shape[-1] < logits.shape[-1]:  # of the fewer, labels or classes
            cost_class = self._saved(logits.float().gather(-1, labels))
        else:
            cost_class = self._saved(logits.float()).gather(-1, labels)
        return self.cost_class * cost_class + self.cost_bbox * cost_bbox - self.cost_giou * overlap

    def _saved(self, logits: Tensor) -> Tensor:
        """Focal loss of a query that is a positive minus that of one that is not, in the shape of the logits."""
        probability = logits.sigmoid()
        log_probability = F.logsigmoid(logits)
        positive = self.focal_alpha * (1 - probability) ** self.focal_gamma * -log_probability
        negative = (1 - self.focal_alpha) * probability**self.focal_gamma * (logits - log_probability)
        return positive - negative


def _parts(images: int, *, pairs: int, device: torch.device) -> list[slice]:
    """Images whose costs are computed together, where one has so many pairs."""
    at_once = max(1, PAIRS_AT_ONCE // max(1, pairs)) if device.type == "cpu" else images
    return [slice(first, first + at_once) for first in range(0, images, at_once)]
