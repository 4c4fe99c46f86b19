"""Hungarian matching of queries to ground truth.

Source: Carion et al., "DETR", https://arxiv.org/abs/2005.12872, section 3.1; focal classification cost: Zhu et al.,
"Deformable DETR", https://arxiv.org/abs/2010.04159. `dino_detector.structures.targets` explains the symbols of shapes.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from dino_detector.config import LossConfig, MatchingConfig
from dino_detector.structures.boxes import generalized_iou
from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets

CPU_CHUNK = 2**20
"""pairs of a query and a box whose costs a CPU computes at once, so that intermediate tensors fit into its cache"""


class HungarianMatcher:
    """Assign a query to each ground truth box so that the sum of the costs of an image is smallest.

    The cost of a pair is a weighted sum of a focal classification cost, the L1 distance of the boxes, and their
    negative generalized IoU.

    ``set_cost_quality`` is the exponent of the overlap (1 + GIoU) / 2 that multiplies the score in the classification
    cost; 0 leaves the score alone. Source: Liu et al., "Detection Transformer with Stable Matching",
    https://arxiv.org/abs/2304.04742, section 3.3, with 0.5.
    """

    def __init__(self, costs: MatchingConfig, losses: LossConfig) -> None:
        self.costs = costs
        self.focal_alpha = losses.focal_alpha
        self.focal_gamma = losses.focal_gamma

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, boxes_cxcywh: Tensor, targets: Targets, *, must_be_finite: Tensor | None = None
    ) -> MatchedIndices:
        """Match each layer and image on its own; an image with N boxes has min(Q, N) pairs in each layer.

        Args:
            logits: ``[L, B, Q, C]``.
            boxes_cxcywh: ``[L, B, Q, 4]`` in 0..1.
            targets: ground truth of the B images.
            must_be_finite: a further scalar to check; it shares the copy to the host.

        Raises:
            FloatingPointError: the scalar or a cost is not finite, as after a diverged step.
        """
        batch = len(targets.valid)
        costs = torch.cat(
            [
                self.cost_matrix(logits[:, part], boxes_cxcywh[:, part], Targets(*(column[part] for column in targets)))
                for part in self._chunks(logits, targets)
            ],
            dim=1,
        )  # [L, B, Q, T]
        num_boxes = targets.valid.sum(1)  # [B]
        scalars = [] if must_be_finite is None else [must_be_finite.to(costs.dtype)[None]]
        # A single copy to the host: each copy waits for the device.
        packed = torch.cat([costs.flatten(), num_boxes.to(costs.dtype), *scalars]).cpu().numpy()
        if not np.isfinite(packed).all():
            raise FloatingPointError("the predictions are not finite: training diverged")
        values, counts, _ = np.split(packed, [costs.numel(), costs.numel() + batch])
        matrices = values.reshape(costs.shape)
        pairs = []
        for layer, image in np.ndindex(matrices.shape[:2]):
            query, target = linear_sum_assignment(matrices[layer, image, :, : int(counts[image])])
            pairs.append(np.stack([np.full_like(query, layer), np.full_like(query, image), query, target]))
        return MatchedIndices(*torch.from_numpy(np.concatenate(pairs, axis=1)).to(logits.device))

    def cost_matrix(self, logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> Tensor:
        """Return the cost of every query with every target of its image, ``[L, B, Q, T]``, padding included."""
        layers, _, queries, num_classes = logits.shape
        logits, predicted = logits.float(), boxes_cxcywh.float()
        wanted = targets.boxes_cxcywh.float()[None].expand(layers, -1, -1, -1)  # [L, B, T, 4]
        cost_bbox = torch.cdist(predicted, wanted, p=1)
        giou = generalized_iou(
            box_convert(predicted, "cxcywh", "xyxy")[:, :, :, None], box_convert(wanted, "cxcywh", "xyxy")[:, :, None]
        )
        labels = targets.labels[None, :, None].expand(layers, -1, queries, -1)  # [L, B, Q, T]
        if self.costs.set_cost_quality:
            scores = logits.sigmoid().gather(-1, labels) * ((1 + giou) / 2) ** self.costs.set_cost_quality
            cost_class = self._focal_cost(scores.clamp(1e-8, 1 - 1e-6).logit())
        elif labels.shape[-1] < num_classes:  # the smaller table of logits
            cost_class = self._focal_cost(logits.gather(-1, labels))
        else:
            cost_class = self._focal_cost(logits).gather(-1, labels)
        costs = self.costs
        return costs.set_cost_class * cost_class + costs.set_cost_bbox * cost_bbox - costs.set_cost_giou * giou

    def _focal_cost(self, logits: Tensor) -> Tensor:
        """Return the focal loss as a positive minus the focal loss as a negative, in the shape of the logits."""
        score, log_score = logits.sigmoid(), F.logsigmoid(logits)
        positive = self.focal_alpha * (1 - score) ** self.focal_gamma * -log_score
        negative = (1 - self.focal_alpha) * score**self.focal_gamma * (logits - log_score)
        return positive - negative

    @staticmethod
    def _chunks(logits: Tensor, targets: Targets) -> list[slice]:
        """Return slices of the batch whose cost matrices are computed together."""
        layers, batch, queries, _ = logits.shape
        pairs = layers * queries * targets.valid.shape[1]  # of an image
        size = max(1, CPU_CHUNK // max(1, pairs)) if logits.device.type == "cpu" else batch
        return [slice(first, first + size) for first in range(0, batch, size)]
