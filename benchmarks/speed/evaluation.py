"""COCO evaluation, by this repository and by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from typing import Any

import numpy as np

from benchmarks.common import generated_evaluation
from benchmarks.speed import clock
from benchmarks.speed.clock import report
from dino_detector.validate import coco_metrics

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def ours(*, images: int, detections: int) -> None:
    """Report the seconds of `coco_metrics`."""
    truth, results = case(images=images, detections=detections)
    began = time.perf_counter()
    coco_metrics(truth, results)
    report(seconds=time.perf_counter() - began)


def pycocotools(*, images: int, detections: int) -> None:
    """Report the seconds of pycocotools, and check that its twelve numbers equal the ones of `coco_metrics`."""
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


def case(*, images: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth and results with ``detections`` detections per image."""
    rng = np.random.default_rng(0)
    truth = generated_evaluation.ground_truth([f"{number}.jpg" for number in range(images)], rng)
    return truth, generated_evaluation.detections(truth, rng, noise=0.08, per_image=detections)


if __name__ == "__main__":
    clock.main("benchmarks.speed.evaluation", __doc__, {"ours": ours, "pycocotools": pycocotools})
