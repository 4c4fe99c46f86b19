"""From the decoder's last layer to detections in pixels of the original image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dino_detector.config import MAX_DETECTIONS, ImageSize
from dino_detector.data.windows import boxes_to_original
from dino_detector.structures.detections import ImageDetections


class BestPairs(NamedTuple):
    """The K best pairs of query and class of each image, by descending score.

    Attributes:
        boxes_cxcywh: ``[B, K, 4]`` float32 in 0..1 of the network's input.
        scores: ``[B, K]`` float32 in 0..1.
        labels: ``[B, K]`` int64.
    """

    boxes_cxcywh: Tensor
    scores: Tensor
    labels: Tensor


def most_detections(num_queries: int) -> int:
    """Return how many detections of an image are kept over all classes: 100 as in COCO, or ``num_queries`` if more."""
    return max(MAX_DETECTIONS, num_queries)


def best_pairs(logits: Tensor, boxes_cxcywh: Tensor) -> BestPairs:
    """Return the best `most_detections` pairs from logits ``[B, Q, C]`` and boxes ``[B, Q, 4]`` of a decoder layer.

    A query may answer with several classes.
    """
    num_queries, num_classes = logits.shape[1:]
    scores = logits.float().sigmoid().flatten(1)  # [B, Q*C]
    kept = min(most_detections(num_queries), scores.shape[1])
    scores, order = scores.topk(kept, dim=1)  # [B, K]
    chosen = (order // num_classes)[..., None].expand(-1, -1, 4)
    return BestPairs(boxes_cxcywh.float().gather(1, chosen), scores, order % num_classes)


def in_original_pixels(
    best: BestPairs, *, original_sizes: Tensor, image_size: ImageSize, resize_mode: str
) -> list[ImageDetections]:
    """Return the best pairs of each image as detections, clipped to the image, on the CPU.

    Args:
        best: K best pairs.
        original_sizes: ``[B, 2]``, height and width of the original images.
        image_size: height and width of the network's input.
        resize_mode: `DataConfig.resize_mode`.
    """
    boxes_xyxy = boxes_to_original(
        best.boxes_cxcywh, original_sizes.to(best.boxes_cxcywh.device), image_size=image_size, resize_mode=resize_mode
    )
    columns = (boxes_xyxy.cpu(), best.scores.cpu(), best.labels.cpu())
    return [ImageDetections(*rows) for rows in zip(*columns, strict=True)]
