"""The content of a report as one JSON object.

Numbers are fractions, 0..1, and null without such ground truth (-1 in COCO). Boxes are
``[x, y, width, height]`` in pixels of the original image; a ``label`` is the index of a class in ``classes``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from dino_detector.analysis.comparison import FlippedImage, bootstrap, flipped_images
from dino_detector.analysis.confusion import confusion_matrix
from dino_detector.analysis.gallery import gallery
from dino_detector.analysis.matches import IOU_THRESHOLDS, DetectionMatches
from dino_detector.analysis.mistakes import Mistakes, find_mistakes, mistake_costs
from dino_detector.analysis.result_files import images_of
from dino_detector.analysis.runs import Run
from dino_detector.analysis.scores import calibration, class_thresholds, overall_threshold, score_counts
from dino_detector.analysis.thumbnails import Thumbnails
from dino_detector.errors import InputError
from dino_detector.plain_text import relative_name, short_path
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.validate import CocoEvaluation, coco_evaluation, coco_metrics

if TYPE_CHECKING:
    from dino_detector.data.coco.annotations import CocoAnnotations

log = logging.getLogger(__name__)

THUMBNAIL_BYTES = 6_500_000
"""limit for all thumbnails of a report, so that it stays below 10 MB"""
MOST_FLIPPED = 50
"""number of listed images that became better, and of those that became worse"""
DIGITS = 6
"""decimals of fractions; the page shows three. Scores and thresholds keep all decimals"""
CURVE_DIGITS = 4
"""decimals of the many points of curves"""
SAME_METRICS = 1e-3
"""largest difference between the AP of a metrics file and the AP of its detections"""


def report_payload(run: Run, baseline: Run | None, *, gallery_images: int, data_given: bool) -> dict[str, Any]:
    """Compute the content of a report with thumbnails, and warn of absent files.

    Args:
        run: the run to report.
        baseline: another run on the same images, to compare with.
        gallery_images: largest number of images with mistakes.
        data_given: whether the user names the detections or the data. Otherwise, if they do not belong to the metrics
            (for example because the annotations were corrected since), the report has the metrics alone.

    Raises:
        InputError: see `build_payload`.
    """
    for part, what in ((run, "the report"), (baseline, "the comparison")):
        if part is not None and part.missing:
            alone = part.results is None or part.annotations is None
            shows = f"{what} has the numbers alone" if alone else f"{what} has no pictures"
            if alone or what == "the report":
                log.warning("%s: %s; not there: %s", part.name, shows, ", ".join(part.missing))
    thumbnails = None
    if run.annotations is not None and run.images is not None:
        thumbnails = Thumbnails(images_of(run.annotations), run.images, count=gallery_images, budget=THUMBNAIL_BYTES)
    try:
        payload = build_payload(run, baseline=baseline, images_in_gallery=gallery_images, thumbnail=thumbnails)
    except InputError as error:
        if data_given or baseline is not None or run.results is None:
            raise
        log.warning("%s; so the report has the numbers alone", error)
        return build_payload(run._replace(results=None), baseline=None, images_in_gallery=0)
    if thumbnails is not None:
        thumbnails.warn()
    return payload


def build_payload(
    run: Run,
    *,
    baseline: Run | None,
    images_in_gallery: int,
    thumbnail: Callable[[int], str | None] | None = None,
) -> dict[str, Any]:
    """Compute the content of a report; strict JSON, without NaN.

    Without results or annotations, every part but the metrics is None. The bootstrap and the flipped images of the
    comparison are None unless both runs have results and annotations.

    Args:
        run: the run to report.
        baseline: another run on the same images, to compare with.
        images_in_gallery: largest number of images with mistakes.
        thumbnail: returns the ``data:`` URL of an image by its id, or None for an image that can't be shown. It is
            called for the images of the gallery alone.

    Raises:
        InputError: results refer to an image or category that the annotations don't have; the metrics do not belong to
            these results and annotations; or the two runs were evaluated on different images or ground truth.
    """
    against = "" if baseline is None else f", compared with the baseline {short_path(baseline.name)}"
    payload = {
        "title": short_path(run.name),
        "subtitle": run.origin + against,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "images": run.metrics.num_images,
        "boxes": sum(row.boxes for row in run.metrics.per_class),
        "detections": run.metrics.num_detections,
        "metrics": {name: _fraction(value) for name, value in run.metrics.numbers.items()},
        "max_detections": run.metrics.max_detections,
        "classes": _class_rows(run.metrics),
        **dict.fromkeys(("curves", "errors", "confusion", "calibration", "gallery", "scores")),
    }
    annotations = _evaluated_annotations(run)
    matches = None
    if annotations is not None:
        evaluation = run.evaluation
        if evaluation is None:
            evaluation = coco_evaluation(
                annotations.ground_truth, run.results, max_detections=run.metrics.max_detections
            )
            _check_metrics(run, evaluation.metrics)
        matches = DetectionMatches.of(annotations, run.results, max_detections=run.metrics.max_detections)
        mistakes = find_mistakes(matches)
        threshold = overall_threshold(matches)
        pictures = gallery(
            matches,
            mistakes,
            annotations,
            threshold=threshold,
            count=images_in_gallery,
            thumbnail=thumbnail or (lambda image_id: None),
        )
        measured = calibration(evaluation.evaluator)
        counts, edges = score_counts([row["score"] for row in run.results])
        payload |= {
            "classes": _class_rows(run.metrics, evaluation, matches),
            "curves": _curves(evaluation),
            "errors": _errors(matches, mistakes),
            "confusion": {
                "threshold": threshold,
                "iou": float(IOU_THRESHOLDS[0]),
                "counts": confusion_matrix(matches, threshold=threshold).tolist(),
            },
            "calibration": measured | {"error": _fraction(measured["error"])},
            "gallery": pictures,
            "scores": {"edges": edges.tolist(), "counts": counts.tolist()},
        }
    payload["comparison"] = None if baseline is None else _comparison(run, baseline, annotations, matches)
    return payload


def _evaluated_annotations(run: Run) -> CocoAnnotations | None:
    """Return the ground truth of the evaluated images; None if detections or ground truth are not at hand."""
    if run.results is None or run.annotations is None:
        return None
    path, wanted = run.annotations.path, run.metrics.num_images
    known = {record.image_id for record in run.annotations.images}
    detected = {row["image_id"] for row in run.results}
    if unknown := detected - known:
        raise InputError(
            f"{path}: has no image {min(unknown)}, which detections of {run.name} refer to; give the annotations that "
            "the run was evaluated on"
        )
    if wanted == len(known):
        return run.annotations
    if wanted == len(detected):
        return run.annotations.restricted_to(detected)
    raise InputError(
        f"{path}: has {len(known)} images, of which {len(detected)} have detections, but {run.name} was evaluated on "
        f"{wanted}; give the annotations and detections of that evaluation"
    )


def _check_metrics(run: Run, metrics: CocoMetrics) -> None:
    """Raise `InputError` if the metrics of a run do not belong to its detections."""
    of_run = run.metrics
    if metrics.num_detections != of_run.num_detections:
        problem, wanted = f"are {metrics.num_detections} detections", f"{of_run.num_detections}"
    elif [row.category_id for row in metrics.per_class] != sorted(row.category_id for row in of_run.per_class):
        problem, wanted = f"are {len(metrics.per_class)} classes", f"other classes, {len(of_run.per_class)} of them"
    elif abs(metrics.AP - of_run.AP) > SAME_METRICS:
        problem, wanted = f"is an AP of {metrics.AP:.3f}", f"{of_run.AP:.3f}"
    else:
        return
    raise InputError(
        f"{run.annotations.path}: with these detections there {problem}, but the metrics of {run.name} say {wanted}; "
        "give metrics, detections and annotations of one evaluation"
    )


def _class_rows(
    metrics: CocoMetrics, evaluation: CocoEvaluation | None = None, matches: DetectionMatches | None = None
) -> list[dict[str, Any]]:
    """Return a row for each class; without an evaluation, only the numbers of the metrics are known."""
    names = ("AP75", "APs", "APm", "APl", "AR100", "threshold", "F1", "precision", "recall")
    rows = [
        {
            "id": row.category_id,
            "name": name,
            "boxes": row.boxes,
            "AP": _fraction(row.AP),
            "AP50": _fraction(row.AP50),
            **dict.fromkeys(names),
        }
        for name, row in sorted(
            zip(metrics.class_names, metrics.per_class, strict=True), key=lambda pair: pair[1].category_id
        )
    ]
    if evaluation is None or matches is None:
        return rows
    precision, recall = evaluation.precision[..., -1], evaluation.recall[..., -1]  # [T, R, C, A], [T, C, A]
    for label, (row, best) in enumerate(zip(rows, class_thresholds(matches), strict=True)):
        row["AP75"] = _fraction(precision[5, :, label, 0].mean())
        for area, name in enumerate(("APs", "APm", "APl"), start=1):
            row[name] = _fraction(precision[:, :, label, area].mean())
        row["AR100"] = _fraction(recall[:, label, 0].mean())
        if best is not None:
            row |= {"threshold": best.score, "F1": _fraction(best.F1), "recall": _fraction(best.recall)}
            row["precision"] = None if best.precision is None else _fraction(best.precision)
    return rows


def _curves(evaluation: CocoEvaluation) -> dict[str, Any] | None:
    """Return precision at each recall, for objects of all areas; None without ground truth."""
    precision = evaluation.precision[:, :, :, 0, -1].transpose(2, 0, 1)  # [C, T, R]
    known = precision[:, 0, 0] > -1
    if not known.any():
        return None
    return {
        "ious": [round(float(iou), 2) for iou in IOU_THRESHOLDS],
        "precision": [
            curves.round(CURVE_DIGITS).tolist() if is_known else None
            for curves, is_known in zip(precision, known, strict=True)
        ],
        "mean": precision[known].mean(axis=0).round(CURVE_DIGITS).tolist(),
    }


def _errors(matches: DetectionMatches, mistakes: Mistakes) -> dict[str, Any]:
    costs = mistake_costs(matches, mistakes)
    return {
        "AP50": _fraction(costs.AP50),
        "types": [
            {"key": kind, "cost": _fraction(cost), "count": costs.counts[kind]} for kind, cost in costs.by_kind.items()
        ],
        "special": [
            {"key": "false_positives", "cost": _fraction(costs.false_positives)},
            {"key": "false_negatives", "cost": _fraction(costs.false_negatives)},
        ],
        "per_class": [
            {"label": label, "costs": {kind: _fraction(of_class[label]) for kind, of_class in costs.of_classes.items()}}
            for label in range(len(matches.categories))
        ],
    }


def _comparison(
    run: Run, baseline: Run, annotations: CocoAnnotations | None, matches: DetectionMatches | None
) -> dict[str, Any]:
    """Return the changes from the baseline to the run. Classes correspond by their ids."""
    if run.metrics.max_detections != baseline.metrics.max_detections:
        raise InputError(
            f"{run.name} counts {run.metrics.max_detections} detections of an image and class, and {baseline.name} "
            f"{baseline.metrics.max_detections}; evaluate both with the same --max_detections"
        )
    before = {row.category_id: _fraction(row.AP) for row in baseline.metrics.per_class}
    classes = []
    for row in _class_rows(run.metrics):
        old, new = before.get(row["id"]), row["AP"]
        change = None if old is None or new is None else round(new - old, DIGITS)
        classes.append({"name": row["name"], "boxes": row["boxes"], "baseline": old, "AP": new, "change": change})
    comparison = {
        "title": short_path(run.name),
        "baseline_title": short_path(baseline.name),
        "metrics": {
            name: {"baseline": _fraction(before), "value": _fraction(now)}
            for (name, now), before in zip(run.metrics.numbers.items(), baseline.metrics.numbers.values(), strict=True)
        },
        "classes": classes,
        "bootstrap": None,
        "flipped": None,
    }
    other = _evaluated_annotations(baseline)
    if matches is None or other is None:
        return comparison
    limit = run.metrics.max_detections
    _check_metrics(baseline, coco_metrics(other.ground_truth, baseline.results, max_detections=limit))
    other_matches = DetectionMatches.of(other, baseline.results, max_detections=limit)
    _check_same_truth(run, baseline, matches, other_matches)
    interval = bootstrap(matches, other_matches)
    thresholds = {"threshold": overall_threshold(matches), "baseline_threshold": overall_threshold(other_matches)}
    flipped = flipped_images(matches, other_matches, **thresholds)
    names = {record.image_id: record.file_name for record in annotations.images}

    def listed(images: list[FlippedImage]) -> list[dict[str, Any]]:
        return [{**image._asdict(), "file_name": relative_name(names[image.id])} for image in images[:MOST_FLIPPED]]

    return comparison | {
        "bootstrap": None if interval is None else interval._asdict(),
        "flipped": {
            **thresholds,
            "gained": listed(flipped.gained),
            "lost": listed(flipped.lost),
            "total_gained": len(flipped.gained),
            "total_lost": len(flipped.lost),
        },
    }


def _check_same_truth(run: Run, baseline: Run, matches: DetectionMatches, other: DetectionMatches) -> None:
    """Raise `InputError` unless two runs were evaluated on the same images, classes and boxes."""
    both = f"{run.name} and {baseline.name}"
    remedy = "compare runs that were evaluated on the same images and annotations"
    if not np.array_equal(matches.image_ids, other.image_ids):
        raise InputError(
            f"{both} were evaluated on different images ({len(matches.image_ids)} and {len(other.image_ids)}); {remedy}"
        )
    same = matches.categories.ids == other.categories.ids and all(
        np.array_equal(one, another) for one, another in zip(matches.truth, other.truth, strict=True)
    )
    if not same:
        raise InputError(f"{both} were evaluated on different classes or boxes of the same images; {remedy}")


def _fraction(number: float | None) -> float | None:
    """Round a number for the page; None for None, NaN and COCO's -1."""
    return None if number is None or number == -1 or np.isnan(number) else round(float(number), DIGITS)
