"""The best score threshold of each class, from detections in labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.runs import read_run
from dino_detector.analysis.scores import DEFAULT_THRESHOLD, class_thresholds, overall_threshold
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.pictures.decoding import read_image
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector
from dino_detector.labelling.labelled_data import LabelledData
from dino_detector.models.checkpoint import read_checkpoint
from dino_detector.structures.categories import Categories, check_categories
from dino_detector.structures.detections import coco_results
from dino_detector.training.run_files import finished_epochs

Thresholds = tuple[list[float], str]
"""the threshold of each class ``[C]``, and where they come from, in words"""


def thresholds_beside(checkpoint: Path, categories: Categories) -> Thresholds | None:
    """Return the thresholds from the validation of the checkpoint's epoch; None if its files are not there."""
    _, contents = read_checkpoint(checkpoint)
    metrics = checkpoint.with_name(f"val_metrics_epoch_{finished_epochs(contents)}.json")
    if not metrics.is_file():
        return None
    run = read_run(metrics, {})
    if run.results is None or run.annotations is None or run.annotations.categories != categories:
        return None
    return _best(run.annotations, run.results), f"the validation in {metrics.name}"


def thresholds_on(detector: Detector, data: Path, *, batch_size: int) -> Thresholds:
    """Return the thresholds from detections in the validation split of a data set, or in its only split.

    Raises:
        InputError: the data is wrong, has other classes than the detector, or has no labels.
    """
    splits = {split.name: split for split in LabelledData.read(data).splits}
    split = splits.get("val") or splits.get("test") or next(iter(splits.values()))
    truth = split.annotations.numbered_like(detector.categories)
    check_categories(truth.categories, known=detector.categories, source=truth.path, known_source=Path("the detector"))
    truth.require_boxes()
    files = [split.folder / name for name in truth.images.file_names]
    pixels = (read_image(file, white_level=detector.white_level) for file in files)
    found = detector.detect_each(pixels, tiling=detector.config.tiling, batch_size=batch_size)
    known = set(truth.categories.ids)
    results = [
        row
        for image_id, one in zip(truth.images.ids.tolist(), found, strict=True)
        for row in coco_results(image_id, one, detector.categories)
        if row["category_id"] in known
    ]
    best = dict(zip(truth.categories.ids, _best(truth, results), strict=True))
    overall = DEFAULT_THRESHOLD if not best else sum(best.values()) / len(best)
    of_class = [best.get(number, overall) for number in detector.categories.ids]
    return of_class, f"the {split.name} images of {data}"


def _best(truth: CocoAnnotations, results: Sequence[dict[str, Any]]) -> list[float]:
    """Return the threshold with the best F1 of each class; the one of all classes where a class was never found."""
    matches = DetectionMatches.of(truth, list(results))
    overall = overall_threshold(matches)
    found = class_thresholds(matches)
    return [overall if one is None or one.threshold is None else one.threshold for one in found]


def same_for_all(threshold: float, categories: Categories, origin: str) -> Thresholds:
    """Return one threshold for every class."""
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold must be between 0 and 1, not {threshold}")
    return [threshold] * len(categories), origin
