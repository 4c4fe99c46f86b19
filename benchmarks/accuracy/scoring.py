"""One evaluator for all systems: COCO's AP at 100 detections per image, on boxes in pixels of the original image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.validate import coco_metrics

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def score(evaluations: list[dict[str, Any]], *, folder: Path, annotations: Path) -> list[dict[str, Any]]:
    """Add metrics to evaluations: 0..1, or -1 where the data has no object of that size.

    Args:
        evaluations: evaluations of a record; ``predictions`` names a file of COCO results.
        folder: folder of these files.
        annotations: COCO detection JSON of the evaluated images.
    """
    ground_truth = CocoAnnotations.read(annotations).ground_truth
    known = {category["id"] for category in ground_truth["categories"]}
    scored = []
    for evaluation in evaluations:
        results = json.loads((folder / evaluation["predictions"]).read_text(encoding="utf-8"))
        metrics = coco_metrics(ground_truth, [result for result in results if result["category_id"] in known])
        scored.append(evaluation | {name: getattr(metrics, name) for name in METRICS})
    return scored
