"""What one call analyzes: an evaluation, or detections alone, and all that its report shows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.analysis.payload import build_payload
from dino_detector.analysis.result_files import ImageList, find_image_list, images_of, read_images, read_results
from dino_detector.analysis.runs import Evaluated, Places, read_evaluation, score_results
from dino_detector.analysis.thumbnails import Thumbnails
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError
from dino_detector.plain_text import short_path
from dino_detector.structures.categories import Categories

log = logging.getLogger(__name__)

THUMBNAIL_BYTES = 6_500_000
"""what the pictures of a report take at most, so that all of it stays below 10 MB"""


class Found(NamedTuple):
    """Detections, the file that they come from, and their images; the folder is None where no pictures are drawn."""

    source: Path
    results: list[dict[str, Any]]
    images: ImageList
    folder: Path | None

    def above(self, threshold: float) -> list[dict[str, Any]]:
        """Those with a score of at least ``threshold``."""
        return [row for row in self.results if row["score"] >= threshold]

    @property
    def classes(self) -> Categories:
        """The classes of the images, and a number for those that only the detections have."""
        names = {row["category_id"]: f"class {row['category_id']}" for row in self.results}
        names |= dict(zip(self.images.classes.ids, self.images.classes.names, strict=True))
        return Categories(tuple(sorted(names)), tuple(names[number] for number in sorted(names)))


class Subject(NamedTuple):
    """What is analyzed: an evaluation, perhaps with a baseline; detections; or both.

    Attributes:
        source: the file that the charts of the evaluation are named after; None without one.
        evaluated: the evaluation; None for detections without ground truth.
        baseline: an earlier one to compare it with.
        found: its detections, or those that are all there is; None where they are not at hand.
    """

    source: Path | None
    evaluated: Evaluated | None
    baseline: Evaluated | None
    found: Found | None

    @property
    def truth(self) -> CocoAnnotations | None:
        """The ground truth of the detections, where it is known."""
        return None if self.evaluated is None else self.evaluated.run.annotations


def read_metrics_subject(metrics_files: list[Path], given: Places) -> Subject:
    """The evaluation of the last metrics file, with the one before it as its baseline; pictures of given detections.

    Raises:
        InputError: a file can't be used, or they are not of the same evaluation.
    """
    source = metrics_files[-1]
    evaluated = read_evaluation(source, given)
    truth, results = evaluated.run.annotations, evaluated.run.results
    found = baseline = None
    if len(metrics_files) > 1:
        baseline = read_evaluation(metrics_files[0], given._replace(predictions=None), known=truth)
    if results is not None:
        images = images_of(truth) if truth else find_image_list(evaluated.predictions, evaluated.images)
        folder = evaluated.images if given.predictions is not None else None
        found = Found(evaluated.predictions, results, images, folder)
    return Subject(source, evaluated, baseline, found)


def read_results_subject(source: Path, folder: Path, listed: Path | None, *, max_detections: int) -> Subject:
    """Detections in the images of a folder; their evaluation where the list of the images holds ground truth.

    Raises:
        InputError: a file can't be used, or the detections are of other images than the ground truth.
    """
    results = read_results(source)
    if listed is None:
        return Subject(None, None, None, Found(source, results, find_image_list(source, folder), folder))
    known = read_images(listed, folder=folder)
    evaluated = None
    if known.ground_truth["annotations"]:
        evaluated = score_results(source, results, known, images=folder, max_detections=max_detections)
    found = Found(source, results, images_of(known), folder)
    return Subject(source if evaluated else None, evaluated, None, found)


def report_payload(subject: Subject, *, gallery_images: int, data_given: bool) -> dict[str, Any]:
    """All that the report of an evaluation shows (:mod:`dino_detector.analysis.payload`); warns of what it lacks.

    Args:
        subject: with an evaluation.
        gallery_images: the worst images that are shown at most.
        data_given: whether the user said where detections and data are. Otherwise, if these are no longer the ones that
            the metrics were made of, such as annotations that were corrected since, the numbers alone are reported.

    Raises:
        InputError: as `build_payload`.
    """
    evaluated, baseline = subject.evaluated, subject.baseline
    assert evaluated is not None
    for part, what in ((evaluated, "the report"), (baseline, "the comparison")):
        if part is not None and part.missing:
            alone = part.run.results is None or part.run.annotations is None
            shows = f"{what} has the numbers alone" if alone else f"{what} has no pictures"
            if alone or what == "the report":
                log.warning("%s: %s; not there: %s", part.run.name, shows, ", ".join(part.missing))
    try:
        return _payload(evaluated, baseline, gallery_images=gallery_images)
    except InputError as error:
        if data_given or baseline is not None or evaluated.run.results is None:
            raise
        log.warning("%s; so the report has the numbers alone", error)
        alone = evaluated._replace(run=evaluated.run._replace(results=None, annotations=None))
        return _payload(alone, None, gallery_images=gallery_images)


def _payload(evaluated: Evaluated, baseline: Evaluated | None, *, gallery_images: int) -> dict[str, Any]:
    run, truth = evaluated.run, evaluated.run.annotations
    thumbnails = None
    if truth is not None and evaluated.images is not None:
        thumbnails = Thumbnails(images_of(truth), evaluated.images, count=gallery_images, budget=THUMBNAIL_BYTES)
    against = "" if baseline is None else f", compared with the baseline {short_path(baseline.run.name)}"
    payload = build_payload(
        run,
        baseline=None if baseline is None else baseline.run,
        images_in_gallery=gallery_images,
        thumbnail=thumbnails or _no_picture,
        title=short_path(run.name),
        subtitle=evaluated.origin + against,
    )
    if thumbnails is not None:
        thumbnails.warn()
    return payload


def _no_picture(image_id: int) -> None:
    """Stands in for thumbnails where the folder of the images is not known."""
