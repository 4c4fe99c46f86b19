"""Detections in images without annotations, as the COCO evaluation server takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.unlabelled import DETECTED_INFO
from dino_detector.storage.files import write_whole
from dino_detector.validate import write_results

PREDICTIONS = "testdev_predictions_final.json"


def write_testdev(results: list[dict[str, Any]], images: CocoAnnotations, output_dir: Path) -> Path:
    """Write the detections of test images in COCO's results format; returns the path of the file.

    Beside it goes the list of the images, whose ids may have been given by the order of their names.

    Args:
        results: COCO results with original category ids and boxes in pixels of the images.
        images: the images that were detected in.
        output_dir: where both files go.
    """
    listed = {key: images.ground_truth[key] for key in ("images", "categories")}
    write_whole(output_dir / DETECTED_INFO, json.dumps(listed, ensure_ascii=False) + "\n")
    path = output_dir / PREDICTIONS
    write_results(path, results)
    return path
