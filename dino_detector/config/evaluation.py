"""Settings of the metrics."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DETECTIONS = 100
"""detections of an image and class that COCO's metrics count"""


@dataclass(frozen=True)
class EvaluationConfig:
    """What the metrics count."""

    max_detections: int = MAX_DETECTIONS
    """detections of an image and class that the metrics count, at least COCO's 100; raise it where images have more
    objects of a class. With 300, AR100 is called AR300"""
