"""COCO evaluation, by this repository and by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from typing import Any

import numpy as np

from benchmarks.speed import clock
from benchmarks.speed.clock import report
from benchmarks.speed.scenes import CLASSES, HEIGHT, WIDTH
from dino_detector.validate import coco_metrics

BOXES = 7
"""mean number of boxes per image, like COCO"""
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def ours(*, images: int, detections: int) -> None:
    """Report the seconds of `coco_metrics`."""
    truth, results = case(images=images, detections=detections)
    began = time.perf_counter()
    coco_metrics(truth, results)
    report(seconds=time.perf_counter() - began)


def pycocotools(*, images: int, detections: int) -> None:
    """Report the seconds of pycocotools, and check that its twelve numbers equal those of `coco_metrics`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = case(images=images, detections=detections)
    metrics = coco_metrics(truth, results)
    copied = copy.deepcopy(results)  # pycocotools writes into them
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        known = COCO()
        known.dataset = truth
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(copied), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        seconds = time.perf_counter() - began
    np.testing.assert_allclose([getattr(metrics, name) for name in NUMBERS], evaluation.stats, atol=1e-9)
    report(seconds=seconds)


def case(*, images: int, detections: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth and results; half of the detections of an image lie near one of its boxes."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(BOXES, images)
    image_of = np.repeat(np.arange(images), counts)
    boxes, labels = _boxes(rng, len(image_of)), rng.integers(1, CLASSES + 1, len(image_of))
    crowd = rng.random(len(image_of)) < 0.01
    columns = zip(image_of.tolist(), labels.tolist(), boxes.round(2).tolist(), crowd.tolist(), strict=True)
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(is_crowd),
        }
        for number, (image, label, box, is_crowd) in enumerate(columns, start=1)
    ]
    detected_in = np.repeat(np.arange(images), detections)
    found, classes = _boxes(rng, len(detected_in)), rng.integers(1, CLASSES + 1, len(detected_in))
    starts = np.cumsum(counts) - counts
    near = np.flatnonzero((rng.random(len(detected_in)) < 0.5) & (counts[detected_in] > 0))
    chosen = starts[detected_in[near]] + rng.integers(0, counts[detected_in[near]])
    found[near] = boxes[chosen] + rng.normal(0, 0.08, (len(near), 4)) * np.tile(boxes[chosen, 2:], 2)
    found[:, 2:] = found[:, 2:].clip(1)
    same = near[rng.random(len(near)) < 0.8]
    classes[same] = labels[chosen[np.searchsorted(near, same)]]
    rows = zip(
        detected_in.tolist(),
        classes.tolist(),
        found.round(3).tolist(),
        rng.random(len(found)).tolist(),
        strict=True,
    )
    results = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score} for image, label, box, score in rows
    ]
    truth = {
        "images": [
            {"id": image, "file_name": f"{image}.jpg", "height": HEIGHT, "width": WIDTH} for image in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": label, "name": f"class {label}"} for label in range(1, CLASSES + 1)],
    }
    return truth, results


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes ``[count, 4]``: x, y, width and height in pixels."""
    sides = np.exp(rng.normal(4, 0.9, (count, 2))).clip(4, 400)
    return np.concatenate([rng.random((count, 2)) * ([WIDTH, HEIGHT] - sides), sides], axis=1)


if __name__ == "__main__":
    clock.main("benchmarks.speed.evaluation", __doc__, {"ours": ours, "pycocotools": pycocotools})
