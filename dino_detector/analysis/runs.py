"""An evaluation as its metrics file tells of it: the numbers, and where the detections and the data are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.analysis.payload import Run
from dino_detector.analysis.result_files import read_results
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.crowded_images import warn_of_limit
from dino_detector.errors import InputError
from dino_detector.plain_text import short_path
from dino_detector.storage.files import read_json
from dino_detector.validate import CocoMetrics, EvaluationFiles, coco_evaluation

log = logging.getLogger(__name__)


class Places(NamedTuple):
    """Where the files of an evaluation are said to be; None: where its metrics file says."""

    predictions: Path | None = None
    images: Path | None = None
    annotations: Path | None = None


class Evaluated(NamedTuple):
    """An evaluation, with as much as is at hand.

    Attributes:
        run: numbers, detections and ground truth.
        predictions: the file of the detections; None where it is not at hand.
        images: the folder of the images; None where it is not at hand.
        origin: what was evaluated on what, in words.
        missing: what is not at hand, each with the flag that gives it.
    """

    run: Run
    predictions: Path | None
    images: Path | None
    origin: str
    missing: tuple[str, ...]


def read_evaluation(path: Path, given: Places, *, known: CocoAnnotations | None = None) -> Evaluated:
    """Read a metrics file and what belongs to it.

    Args:
        path: a file that training or evaluation wrote.
        given: places that win over those in the file; they are there.
        known: annotations that are read already, not to be read again where they are those of this evaluation.

    Raises:
        InputError: a file that is there can't be used.
    """
    metrics = CocoMetrics.read(path)
    content = read_json(path)
    named = EvaluationFiles.named_in(path)
    missing = []

    def place(what: str, flag: str, choice: Path | None, told: Path | None) -> Path | None:
        if choice is not None or (told is not None and told.exists()):
            return choice or told
        missing.append(f"{told or what} (--{flag})")
        return None

    predictions = place("the detections", "predictions_file", given.predictions, named and named.predictions)
    annotations = place("their annotations", "val_annotations", given.annotations, named and named.annotations)
    images = place("the images", "val_images", given.images, named and named.images)
    results = None if predictions is None else read_results(predictions)
    truth = None
    if annotations is not None:
        shared = known is not None and known.path.resolve() == annotations.resolve()
        truth = known if shared else CocoAnnotations.read(annotations, images=images)
        truth = truth if images is None else truth.with_files(images, required=False)
    origin = _origin(content.get("checkpoint"), content.get("epoch"), annotations or (named and named.annotations))
    if truth is not None:
        warn_of_limit(truth, metrics.max_detections)
    return Evaluated(Run(str(path), metrics, results, truth), predictions, images, origin, tuple(missing))


def score_results(
    source: Path, results: list[dict[str, Any]], truth: CocoAnnotations, *, images: Path | None, max_detections: int
) -> Evaluated:
    """The evaluation of detections against ground truth; every image of it counts, as in COCO.

    Raises:
        InputError: the detections are of other images or classes than the annotations.
    """
    check_results(results, truth, source=source)
    silent = len(truth.images) - len({row["image_id"] for row in results})
    if silent > len(truth.images) / 2:
        log.warning(
            "%s: %s of %s images of %s have no detection in it; they count as images in which nothing was found",
            *(source, f"{silent:,}", f"{len(truth.images):,}", truth.path),
        )
    warn_of_limit(truth, max_detections)
    evaluation = coco_evaluation(truth.ground_truth, results, max_detections=max_detections)
    run = Run(str(source), evaluation.metrics, results, truth, evaluation)
    return Evaluated(run, source, images, f"on {short_path(truth.path)}", ())


def check_results(results: list[dict[str, Any]], truth: CocoAnnotations, *, source: Path) -> None:
    """Raise `InputError` where a detection is of an image, or a class, that the annotations do not have."""
    classes = set(truth.categories.ids)
    names = {record.image_id: record.file_name for record in truth.images}
    for row in results:
        image_id = row["image_id"]
        if image_id not in names:
            raise InputError(f"{source}: image {image_id} is not in {truth.path}; give the annotations of its images")
        if row["category_id"] not in classes:
            raise InputError(
                f"{source}: category {row['category_id']} is not in {truth.path}; give the annotations of its classes"
            )
        if Path(row.get("file_name", names[image_id])).name != Path(names[image_id]).name:
            raise InputError(
                f"{source}: image {image_id} is {row['file_name']!r}, but {names[image_id]!r} in {truth.path}; "
                "give the annotations of its images"
            )


def _origin(checkpoint: Any, epoch: Any, annotations: Path | None) -> str:
    """What was evaluated on what, as far as a metrics file tells."""
    what = short_path(str(checkpoint)) if checkpoint is not None else f"epoch {epoch}" if epoch is not None else ""
    return " ".join(part for part in (what, f"on {short_path(annotations)}" if annotations else "") if part)
