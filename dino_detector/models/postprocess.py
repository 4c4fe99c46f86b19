"""From the decoder's last layer to detections in pixels of the original image."""

from __future__ import annotations

from torch import Tensor

from dino_detector.config import ImageSize
from dino_detector.data.transforms import boxes_to_original
from dino_detector.detections import ImageDetections

MAX_DETECTIONS = 100
"""Detections kept of an image where there are no more queries, as in the COCO evaluation."""


def postprocess(
    logits: Tensor, boxes_cxcywh: Tensor, *, original_sizes: Tensor, image_size: ImageSize, resize_mode: str
) -> list[ImageDetections]:
    """The best pairs of query and class of each image; a query may answer with several classes.

    Args:
        logits: ``[B, Q, C]`` of the last decoder layer.
        boxes_cxcywh: ``[B, Q, 4]`` in 0..1 of the network's input.
        original_sizes: ``[B, 2]``, height and width of the original images.
        image_size: the network's input.
        resize_mode: how the image was made to fit it.

    Returns:
        For each image at most 100 detections, or as many as there are queries, on the CPU, by falling score, clipped
        to the image.
    """
    num_queries, num_classes = logits.shape[1:]
    scores = logits.float().sigmoid().flatten(1)  # [B, Q*C]
    kept = min(max(MAX_DETECTIONS, num_queries), scores.shape[1])
    scores, order = scores.topk(kept, dim=1)  # [B, K]
    boxes_xyxy = boxes_to_original(
        boxes_cxcywh.float(), original_sizes.to(boxes_cxcywh.device), image_size=image_size, resize_mode=resize_mode
    )
    chosen = (order // num_classes)[..., None].expand(-1, -1, 4)
    boxes_xyxy = boxes_xyxy.gather(1, chosen)  # [B, K, 4]
    columns = (boxes_xyxy.cpu(), scores.cpu(), (order % num_classes).cpu())
    return [ImageDetections(*rows) for rows in zip(*columns, strict=True)]
