"""The content of a report as one JSON object.

Numbers are fractions, 0..1, and null without such ground truth (-1 in COCO). Boxes are
``[x, y, width, height]`` in pixels of the original image; a ``label`` is the index of a class in ``classes``.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.analysis.comparison import bootstrap, flipped_images
from dino_detector.analysis.gallery import gallery
from dino_detector.analysis.matches import IOU_THRESHOLDS, DetectionMatches
from dino_detector.analysis.mistakes import Mistakes, confusion_matrix, find_mistakes, mistake_costs
from dino_detector.analysis.runs import Run
from dino_detector.analysis.scores import SCORE_EDGES, Threshold, calibration, class_thresholds, overall_threshold
from dino_detector.errors import InputError
from dino_detector.plain_text import relative_name, short_path
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.validate import CocoEvaluation, coco_evaluation

if TYPE_CHECKING:
    from dino_detector.data.coco.annotations import CocoAnnotations

log = logging.getLogger(__name__)

DETAILS = ("curves", "errors", "confusion", "calibration", "gallery", "scores")
"""parts that need detections and ground truth"""
MOST_FLIPPED = 50
"""number of listed images that became better, and of those that became worse"""
DIGITS = 6
"""decimals of fractions; the page shows three. Scores and their overall threshold keep all decimals"""
CURVE_DIGITS = 4
"""decimals of the many points of curves"""
SAME_METRICS = 1e-3
"""largest difference between the AP of a metrics file and the AP of its detections"""


class Scored(NamedTuple):
    """A run with its detections, and with the ground truth of the evaluated images alone."""

    annotations: CocoAnnotations
    evaluation: CocoEvaluation
    matches: DetectionMatches
    threshold: float  # score with the best F1 of all classes together


def report_payload(run: Run, baseline: Run | None, *, gallery_images: int, data_given: bool) -> dict[str, Any]:
    """Compute the content of a report, and warn of absent files; strict JSON, without NaN.

    Without results or annotations, every part but the metrics is None. The interval and the flipped images of the
    comparison are None unless both runs have results and annotations.

    Args:
        run: the run to report, with metrics.
        baseline: another run on the same images, to compare with.
        gallery_images: largest number of images with mistakes.
        data_given: whether the user names the detections or the data. Otherwise, if they do not belong to the metrics
            (for example because the annotations were corrected since), the report shows only the metrics.

    Raises:
        InputError: results refer to an image or category that the annotations don't have; the metrics do not belong to
            these results and annotations; or the two runs were evaluated on different images or ground truth.
    """
    for part, what in ((run, "the report"), (baseline, "the comparison")):
        if part is not None and part.missing:
            alone = part.results is None or part.annotations is None
            shows = f"{what} shows only the metrics" if alone else f"{what} has no pictures"
            if alone or what == "the report":
                log.warning("%s: %s; not there: %s", part.source, shows, ", ".join(part.missing))
    try:
        return _payload(run, baseline, gallery_images)
    except InputError as error:
        if data_given or baseline is not None or run.results is None:
            raise
        log.warning("%s; so the report shows only the metrics", error)
        return _payload(run._replace(results=None), None, 0)


def _payload(run: Run, baseline: Run | None, gallery_images: int) -> dict[str, Any]:
    scored = _scored(run)
    against = "" if baseline is None else f", compared with the baseline {short_path(baseline.source)}"
    return {
        "title": short_path(run.source),
        "subtitle": run.origin + against,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "images": run.metrics.num_images,
        "boxes": sum(row.boxes for row in run.metrics.per_class),
        "detections": run.metrics.num_detections,
        "metrics": {name: _fraction(value) for name, value in run.metrics.numbers.items()},
        "max_detections": run.metrics.max_detections,
        "classes": _class_rows(run.metrics, scored),
        **(dict.fromkeys(DETAILS) if scored is None else _details(run, scored, gallery_images)),
        "comparison": None if baseline is None else _comparison(run, baseline, scored),
    }


def _scored(run: Run) -> Scored | None:
    """Match the detections of a run with its ground truth; None if one of the two is not at hand.

    Raises:
        InputError: detections, ground truth and metrics are not of one evaluation.
    """
    truth, metrics = run.annotations, run.metrics
    if run.results is None or truth is None:
        return None
    known = {record.image_id for record in truth.images}
    detected = {row["image_id"] for row in run.results}
    if unknown := detected - known:
        raise InputError(
            f"{truth.path}: has no image {min(unknown)}, which detections of {run.source} refer to; give the "
            "annotations that the run was evaluated on"
        )
    if metrics.num_images not in (len(known), len(detected)):
        raise InputError(
            f"{truth.path}: has {len(known)} images, {len(detected)} with detections, but {run.source} was evaluated "
            f"on {metrics.num_images}; give the annotations and detections of that evaluation"
        )
    if metrics.num_images < len(known):
        truth = truth.restricted_to(detected)
    evaluation = run.evaluation
    if evaluation is None:
        evaluation = coco_evaluation(truth.ground_truth, run.results, max_detections=metrics.max_detections)
        _check_same_metrics(run, evaluation.metrics)
    matches = DetectionMatches.of(truth, run.results, max_detections=metrics.max_detections)
    return Scored(truth, evaluation, matches, overall_threshold(matches))


def _check_same_metrics(run: Run, computed: CocoMetrics) -> None:
    """Raise `InputError` if the metrics of a run do not belong to its detections."""
    stated = run.metrics
    count, stated_count = computed.num_detections, stated.num_detections
    ids, stated_ids = ([row.category_id for row in metrics.per_class] for metrics in (computed, stated))
    differences = [
        (count != stated_count, f"{count} detections", f"{stated_count}"),
        (ids != stated_ids, f"{len(ids)} classes", f"{len(stated_ids)} others"),
        (abs(computed.AP - stated.AP) > SAME_METRICS, f"an AP of {computed.AP:.3f}", f"{stated.AP:.3f}"),
    ]
    for differ, found, said in differences:
        if differ:
            raise InputError(
                f"{run.annotations.path}: the evaluation of the detections has {found}, but {run.source} says {said}; "
                "give metrics, detections and annotations of one evaluation"
            )


def _class_rows(metrics: CocoMetrics, scored: Scored | None) -> list[dict[str, Any]]:
    """Return a row for each class; None for numbers that need detections and ground truth if they are not at hand."""
    details: dict[str, Any] = dict.fromkeys(("AP75", "APs", "APm", "APl", "AR100"), [None] * len(metrics.per_class))
    thresholds = [None] * len(metrics.per_class)
    if scored is not None:
        precision, recall = scored.evaluation.precision[..., -1], scored.evaluation.recall[..., -1]
        details = {"AP75": precision[5, :, :, 0].mean(axis=0)}  # [C] from [T, R, C, A]
        details |= dict(zip(("APs", "APm", "APl"), precision[..., 1:].mean(axis=(0, 1)).T, strict=True))
        details |= {"AR100": recall[..., 0].mean(axis=0)}  # [C] from [T, C, A]
        thresholds = class_thresholds(scored.matches)
    rows = []
    for label, (name, row) in enumerate(zip(metrics.class_names, metrics.per_class, strict=True)):
        numbers = {"AP": row.AP, "AP50": row.AP50, **{key: column[label] for key, column in details.items()}}
        numbers |= (thresholds[label] or Threshold(None, None, None, None))._asdict()
        fractions = {key: _fraction(number) for key, number in numbers.items()}
        rows.append({"id": row.category_id, "name": name, "boxes": row.boxes, **fractions})
    return rows


def _details(run: Run, scored: Scored, gallery_images: int) -> dict[str, Any]:
    """Return the parts that need detections and ground truth."""
    matches, threshold = scored.matches, scored.threshold
    mistakes = find_mistakes(matches)
    measured = calibration(scored.evaluation.evaluator)
    counts, edges = np.histogram([row["score"] for row in run.results], bins=SCORE_EDGES)
    return {
        "curves": _curves(scored.evaluation),
        "errors": _errors(matches, mistakes),
        "confusion": {
            "threshold": threshold,
            "iou": float(IOU_THRESHOLDS[0]),
            "counts": confusion_matrix(matches, threshold=threshold).tolist(),
        },
        "calibration": measured | {"error": _fraction(measured["error"])},
        "gallery": gallery(
            *(matches, mistakes, scored.annotations), threshold=threshold, count=gallery_images, folder=run.images
        ),
        "scores": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _curves(evaluation: CocoEvaluation) -> dict[str, Any] | None:
    """Return precision at each recall, for objects of all areas; None without ground truth."""
    precision = evaluation.precision[:, :, :, 0, -1].transpose(2, 0, 1)  # [C, T, R]
    known = precision[:, 0, 0] > -1
    if not known.any():
        return None
    curves = precision.round(CURVE_DIGITS).tolist()
    return {
        "ious": IOU_THRESHOLDS.round(2).tolist(),
        "precision": [curve if is_known else None for curve, is_known in zip(curves, known, strict=True)],
        "mean": precision[known].mean(axis=0).round(CURVE_DIGITS).tolist(),
    }


def _errors(matches: DetectionMatches, mistakes: Mistakes) -> dict[str, Any]:
    costs = mistake_costs(matches, mistakes)
    special = ("false_positives", "false_negatives")
    return {
        "AP50": _fraction(costs.AP50),
        "types": [
            {"key": key, "cost": _fraction(cost), "count": costs.counts[key]} for key, cost in costs.by_kind.items()
        ],
        "special": [{"key": key, "cost": _fraction(getattr(costs, key))} for key in special],
        "per_class": [
            {"label": label, "costs": {kind: _fraction(of_class[label]) for kind, of_class in costs.of_classes.items()}}
            for label in range(len(matches.categories))
        ],
    }


def _comparison(run: Run, baseline: Run, scored: Scored | None) -> dict[str, Any]:
    """Return the changes from the baseline to the run; classes correspond by their ids.

    Raises:
        InputError: the two were evaluated on different images, classes or boxes, or with different limits.
    """
    now, before = run.metrics, baseline.metrics
    if now.max_detections != before.max_detections:
        raise InputError(
            f"{run.source} counts {now.max_detections} detections of an image and class, and {baseline.source} "
            f"{before.max_detections}; evaluate both with the same --max_detections"
        )
    old_AP = {row.category_id: _fraction(row.AP) for row in before.per_class}
    classes = []
    for name, row in zip(now.class_names, now.per_class, strict=True):
        old, new = old_AP.get(row.category_id), _fraction(row.AP)
        change = None if old is None or new is None else round(new - old, DIGITS)
        classes.append({"name": name, "boxes": row.boxes, "baseline": old, "AP": new, "change": change})
    pairs = zip(now.numbers.items(), before.numbers.values(), strict=True)
    comparison = {
        "title": short_path(run.source),
        "baseline_title": short_path(baseline.source),
        "metrics": {name: {"baseline": _fraction(old), "value": _fraction(new)} for (name, new), old in pairs},
        "classes": classes,
        "bootstrap": None,
        "flipped": None,
    }
    other = _scored(baseline)
    if scored is None or other is None:
        return comparison
    matches, other_matches = scored.matches, other.matches
    ids, other_ids = matches.image_ids, other_matches.image_ids
    both = f"{run.source} and {baseline.source} were evaluated on different"
    remedy = "compare runs that were evaluated on the same images and annotations"
    if not np.array_equal(ids, other_ids):
        raise InputError(f"{both} images ({len(ids)} and {len(other_ids)}); {remedy}")
    same_classes = matches.categories.ids == other_matches.categories.ids
    if not same_classes or not all(map(np.array_equal, matches.truth, other_matches.truth)):
        raise InputError(f"{both} classes or boxes of the same images; {remedy}")
    thresholds = {"threshold": scored.threshold, "baseline_threshold": other.threshold}
    flipped: dict[str, Any] = {**thresholds}
    names = {record.image_id: relative_name(record.file_name) for record in scored.annotations.images}
    for key, images in flipped_images(matches, other_matches, **thresholds).items():
        flipped[f"total_{key}"] = len(images)
        flipped[key] = [{**image, "file_name": names[image["id"]]} for image in images[:MOST_FLIPPED]]
    return comparison | {"bootstrap": bootstrap(matches, other_matches), "flipped": flipped}


def _fraction(number: float | None) -> float | None:
    """Round a number for the page; None for None, NaN and COCO's -1."""
    return None if number is None or number == -1 or np.isnan(number) else round(float(number), DIGITS)
