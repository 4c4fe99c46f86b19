"""Evaluations: their metrics, detections and ground truth, read from the files that a metrics file names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.analysis.result_files import read_results
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.crowded_images import warn_of_limit
from dino_detector.errors import InputError
from dino_detector.plain_text import short_path
from dino_detector.storage.files import read_json
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.validate import CocoEvaluation, coco_evaluation

log = logging.getLogger(__name__)


class RunPaths(NamedTuple):
    """Files of an evaluation that the user names; None for the file that the metrics file names."""

    predictions: Path | None = None
    images: Path | None = None
    annotations: Path | None = None


class Run(NamedTuple):
    """One evaluation: its metrics and, if at hand, its detections, ground truth and files.

    Attributes:
        name: for example the name of its metrics file.
        metrics: the numbers.
        results: rows in COCO's results format, as `result_files.read_results` returns them; None if not at hand.
        annotations: the ground truth, perhaps with more images than were evaluated; None if not at hand.
        evaluation: the source of ``metrics``; None for metrics that were read from a file.
        predictions: the file of ``results``.
        images: the folder of the images.
        origin: the checkpoint or epoch and the data that were evaluated, in words.
        missing: files that are not at hand, each with the flag that names them.
    """

    name: str
    metrics: CocoMetrics
    results: list[dict[str, Any]] | None
    annotations: CocoAnnotations | None
    evaluation: CocoEvaluation | None = None
    predictions: Path | None = None
    images: Path | None = None
    origin: str = ""
    missing: tuple[str, ...] = ()


def read_run(path: Path, given: RunPaths, *, known: CocoAnnotations | None = None) -> Run:
    """Read a metrics file and the files that belong to it.

    Args:
        path: a file that training or evaluation wrote.
        given: existing files that replace the files named in the metrics file.
        known: annotations that are reused if the run has the same file.

    Raises:
        InputError: an existing file can't be used.
    """
    metrics = CocoMetrics.read(path)
    content, named = read_json(path), EvaluationFiles.named_in(path)
    missing = []

    def choose(what: str, flag: str, choice: Path | None, default: Path | None) -> Path | None:
        if choice is not None or (default is not None and default.exists()):
            return choice or default
        missing.append(f"{default or what} (--{flag})")
        return None

    predictions = choose("the detections", "predictions_file", given.predictions, named and named.predictions)
    annotations = choose("their annotations", "val_annotations", given.annotations, named and named.annotations)
    images = choose("the images", "val_images", given.images, named and named.images)
    results = None if predictions is None else read_results(predictions)
    truth = None
    if annotations is not None:
        shared = known is not None and known.path.resolve() == annotations.resolve()
        truth = known if shared else CocoAnnotations.read(annotations, images=images)
        truth = truth if images is None else truth.with_files(images, required=False)
        warn_of_limit(truth, metrics.max_detections)
    checkpoint, epoch, data = (
        content.get("checkpoint"),
        content.get("epoch"),
        annotations or (named and named.annotations),
    )
    model = short_path(str(checkpoint)) if checkpoint is not None else "" if epoch is None else f"epoch {epoch}"
    origin = " ".join(part for part in (model, f"on {short_path(data)}" if data else "") if part)
    return Run(str(path), metrics, results, truth, None, predictions, images, origin, tuple(missing))


def score_results(
    source: Path, results: list[dict[str, Any]], truth: CocoAnnotations, *, images: Path | None, max_detections: int
) -> Run:
    """Evaluate detections on all images of the ground truth.

    Raises:
        InputError: the annotations lack an image or a class of the detections.
    """
    _check_results(results, truth, source=source)
    empty = len(truth.images) - len({row["image_id"] for row in results})
    if empty > len(truth.images) / 2:
        log.warning(
            "%s: %s of %s images of %s have no detection in it; they count as images in which nothing was found",
            *(source, f"{empty:,}", f"{len(truth.images):,}", truth.path),
        )
    warn_of_limit(truth, max_detections)
    evaluation = coco_evaluation(truth.ground_truth, results, max_detections=max_detections)
    origin = f"on {short_path(truth.path)}"
    return Run(str(source), evaluation.metrics, results, truth, evaluation, source, images, origin)


def _check_results(results: list[dict[str, Any]], truth: CocoAnnotations, *, source: Path) -> None:
    classes = set(truth.categories.ids)
    names = {record.image_id: record.file_name for record in truth.images}
    for row in results:
        image_id, of = row["image_id"], "images"
        if image_id not in names:
            problem = f"image {image_id} is not in {truth.path}"
        elif row["category_id"] not in classes:
            problem, of = f"category {row['category_id']} is not in {truth.path}", "classes"
        elif Path(row.get("file_name", names[image_id])).name != Path(names[image_id]).name:
            problem = f"image {image_id} is {row['file_name']!r}, but {names[image_id]!r} in {truth.path}"
        else:
            continue
        raise InputError(f"{source}: {problem}; give the annotations of its {of}")
