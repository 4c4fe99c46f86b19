"""Input of an analysis: an evaluation, detections, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.analysis.result_files import ImageList, find_image_list, images_of, read_images, read_results
from dino_detector.analysis.runs import Run, RunPaths, read_run, score_results
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.structures.categories import Categories


class DetectionSet(NamedTuple):
    """Detections, their file, and their images; the folder is None if no pictures are drawn."""

    source: Path
    results: list[dict[str, Any]]
    images: ImageList
    folder: Path | None

    def above(self, threshold: float) -> list[dict[str, Any]]:
        """Return the detections with a score of at least ``threshold``."""
        return [row for row in self.results if row["score"] >= threshold]

    @property
    def classes(self) -> Categories:
        """The classes of the images, and a generated name for a class that only the detections have."""
        names = {row["category_id"]: f"class {row['category_id']}" for row in self.results}
        names |= dict(zip(self.images.classes.ids, self.images.classes.names, strict=True))
        return Categories(tuple(sorted(names)), tuple(names[number] for number in sorted(names)))


class AnalysisInput(NamedTuple):
    """An evaluation, perhaps with a baseline; detections; or both.

    Attributes:
        source: the file whose name begins the names of the evaluation's charts; None without an evaluation.
        run: the evaluation; None for detections without ground truth.
        baseline: another evaluation to compare with.
        detections: the detections of the evaluation or of a file; None if not at hand.
    """

    source: Path | None
    run: Run | None
    baseline: Run | None
    detections: DetectionSet | None

    @property
    def truth(self) -> CocoAnnotations | None:
        """The ground truth of the detections, if known."""
        return None if self.run is None else self.run.annotations


def read_metrics_input(metrics_files: list[Path], given: RunPaths) -> AnalysisInput:
    """Read the evaluation of the last metrics file, and of a file before it as its baseline.

    Pictures are drawn only of detections that the user names.

    Raises:
        InputError: a file can't be used.
    """
    run = read_run(metrics_files[-1], given)
    detections = baseline = None
    if len(metrics_files) > 1:
        baseline = read_run(metrics_files[0], given._replace(predictions=None), known=run.annotations)
    if run.results is not None:
        images = images_of(run.annotations) if run.annotations else find_image_list(run.predictions, run.images)
        folder = run.images if given.predictions is not None else None
        detections = DetectionSet(run.predictions, run.results, images, folder)
    return AnalysisInput(metrics_files[-1], run, baseline, detections)


def read_results_input(source: Path, folder: Path, listed: Path | None, *, max_detections: int) -> AnalysisInput:
    """Read detections in the images of a folder, and evaluate them if the list of images has ground truth.

    Raises:
        InputError: a file can't be used, or the ground truth lacks an image or a class of the detections.
    """
    results = read_results(source)
    if listed is None:
        return AnalysisInput(None, None, None, DetectionSet(source, results, find_image_list(source, folder), folder))
    known = read_images(listed, folder=folder)
    run = None
    if known.ground_truth["annotations"]:
        run = score_results(source, results, known, images=folder, max_detections=max_detections)
    detections = DetectionSet(source, results, images_of(known), folder)
    return AnalysisInput(source if run else None, run, None, detections)
