"""Runs to analyze, read from files: metrics, detections, ground truth and images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.entries import WHOLE_NUMBERS
from dino_detector.data.coco.unlabelled import DETECTED_INFO, find_image_info
from dino_detector.data.layouts import annotations_exist, source_of
from dino_detector.errors import InputError
from dino_detector.plain_text import quoted, short_path
from dino_detector.storage.files import paused_collection, read_json
from dino_detector.structures.categories import Categories
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.validate import CocoEvaluation, coco_evaluation

log = logging.getLogger(__name__)

FLAGS = {"predictions": "predictions_file", "annotations": "val_annotations", "images": "val_images"}
"""flags that name the files of a run"""


class Run(NamedTuple):
    """An evaluation, or detections without ground truth; None for everything that is not at hand."""

    source: Path  # file of the metrics or, if they are computed from detections, of the detections
    metrics: CocoMetrics | None  # None without ground truth
    results: list[dict[str, Any]] | None = None  # rows in COCO's results format
    annotations: CocoAnnotations | None = None  # ground truth, perhaps of more images than were evaluated
    evaluation: CocoEvaluation | None = None  # source of the metrics; None if they were read from a file
    predictions: Path | None = None  # file of the results
    images: Path | None = None  # folder of the images
    listed: CocoAnnotations | None = None  # names, sizes and classes of the images of the results
    named: dict[int, str] | None = None  # names of classes by id, which ``listed`` may lack
    origin: str = ""  # checkpoint or epoch, and data, in words
    missing: tuple[str, ...] = ()  # files that are not at hand, each with the flag that names it

    @property
    def classes(self) -> Categories:
        """The classes of the images, and a generated name for a class that only the results have."""
        names = {row["category_id"]: f"class {row['category_id']}" for row in self.results or ()}
        names |= self.named or {}
        if self.listed is not None:
            names |= dict(zip(self.listed.categories.ids, self.listed.categories.names, strict=True))
        return Categories(tuple(sorted(names)), tuple(names[number] for number in sorted(names)))


def read_run(path: Path, given: dict[str, Path | None], *, known: CocoAnnotations | None = None) -> Run:
    """Read a metrics file and the files that belong to it; raise `InputError` if an existing file can't be used.

    ``given`` names ``predictions``, ``annotations`` and ``images`` that replace those in the metrics file. ``known``
    annotations are reused if the run has the same file.
    """
    content = read_json(path)
    metrics, named = CocoMetrics.read(path), EvaluationFiles.named_in(path, content)
    files, missing = {}, []
    for name, flag in FLAGS.items():
        default = getattr(named, name, None)
        files[name] = given.get(name) or (default if default is not None and annotations_exist(default) else None)
        if files[name] is None:
            missing.append(f"{default or f'the {name}'} (--{flag})")
    predictions, annotations, images = files.values()
    results = None if predictions is None else read_results(predictions)
    truth = None
    if annotations is not None:
        shared = known is not None and known.path.resolve() == annotations.resolve()
        truth = known if shared else CocoAnnotations.read(annotations, images=images)
        truth = truth if images is None else truth.with_files(images, required=False)
        classes = [(row.category_id, row.name) for row in metrics.per_class]
        known = Categories(tuple(number for number, _ in classes), tuple(name for _, name in classes))
        truth = truth.numbered_like(known).with_classes(known.names)  # the evaluation did the same
        truth.warn_of_limit(metrics.max_detections)
    origin = []
    if content.get("checkpoint") is not None:
        origin.append(short_path(str(content["checkpoint"])))
    elif content.get("epoch") is not None:
        origin.append(f"epoch {content['epoch']}")
    if data := annotations or (named and named.annotations):
        origin.append(f"on {short_path(data)}")
    return Run(
        *(path, metrics, results, truth, None, predictions, images),
        listed=truth,
        origin=" ".join(origin),
        missing=tuple(missing),
    )


def read_metrics(files: Sequence[Path], given: dict[str, Path | None]) -> tuple[Run, Run | None]:
    """Read the evaluation of the last metrics file, and of a file before it as its baseline; see `read_run`."""
    run, baseline = read_run(files[-1], given), None
    if len(files) > 1:
        baseline = read_run(files[0], given | {"predictions": None}, known=run.annotations)
    if run.results is not None and run.annotations is None:
        run = run._replace(listed=find_image_list(run.predictions, run.images))
    return run, baseline


def read_detections(source: Path, folder: Path, listed: Path | None, *, max_detections: int) -> Run:
    """Read detections in the images of a folder, and evaluate them if the list of images has ground truth.

    Raises:
        InputError: a file can't be used, or the ground truth lacks an image or a class of the detections.
    """
    results = read_results(source)
    images = find_image_list(source, folder) if listed is None else read_images(listed, folder=folder)
    named = _predicted_classes(source)
    if images is not None and named:
        images = images.numbered_like(Categories(tuple(sorted(named)), tuple(named[one] for one in sorted(named))))
    run = Run(source, None, results, None, None, source, folder, listed=images, named=named)
    if listed is None or not len(images.entries):
        return run
    _check_results(results, images, source=source)
    empty = len(images.images) - len({row["image_id"] for row in results})
    if empty > len(images.images) / 2:
        log.warning(
            "%s: %s of %s images of %s have no detection in it; they count as images in which nothing was found",
            *(source, f"{empty:,}", f"{len(images.images):,}", images.path),
        )
    images.warn_of_limit(max_detections)
    evaluation = coco_evaluation(images.ground_truth, results, max_detections=max_detections)
    origin = f"on {short_path(images.path)}"
    return run._replace(metrics=evaluation.metrics, annotations=images, evaluation=evaluation, origin=origin)


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


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read and check a file in COCO's results format; raise `InputError` for the first invalid row."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: not in COCO's results format, which is a list of detections; give another file")
    names: dict[int, str | None] = {}
    for position, row in enumerate(rows):
        if problem := _problem(row):
            raise InputError(f"{path}: entry {position} {problem}")
        image_id, name = row["image_id"], row.get("file_name")
        if names.setdefault(image_id, name) != name:
            before = f"but entries before it of image {image_id} have {names[image_id]!r}"
            raise InputError(f'{path}: entry {position} has "file_name" {name!r}, {before}; give each file its own id')
    return rows


def find_image_list(results: Path, folder: Path | None) -> CocoAnnotations | None:
    """Read the list of images beside a results file or beside a folder of images; return None if there is none."""
    beside = results.with_name(DETECTED_INFO)
    path = beside if beside.is_file() else None if folder is None else find_image_info(folder)
    return None if path is None else read_images(path, folder=folder)


def read_images(path: Path, *, folder: Path | None = None) -> CocoAnnotations:
    """Read the images, categories and annotations, if any, of a file; raise `InputError` if it is invalid.

    With ``folder``, the names of the images are the names of their files there.
    """
    if (source := source_of(path)).format != "COCO":
        annotations = CocoAnnotations.read(source, images=folder)
        return annotations if folder is None else annotations.with_files(folder, required=False)
    with paused_collection():
        content = read_json(path)
        if isinstance(content, dict) and not content.get("annotations"):
            content = {"categories": [], **content, "annotations": []}
        annotations = CocoAnnotations.parse(content, path, images=folder)
    return annotations if folder is None else annotations.with_files(folder, required=False)


def file_inside(folder: Path, name: str) -> Path | None:
    """Return the file with this name below the folder; None if it is absent or the name leads out of the folder."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    try:
        return folder / relative if (folder / relative).is_file() else None
    except OSError:  # a name longer than files may have
        return None


def _predicted_classes(results: Path) -> dict[int, str]:
    """Return the names of classes by id, from the files that ``predict`` or an evaluation writes beside detections."""
    metrics = results.with_name(results.name.replace("_predictions", "_metrics", 1))
    if metrics != results and metrics.is_file() and read_json(metrics).get("predictions") == results.name:
        return {row.category_id: row.name for row in CocoMetrics.read(metrics).per_class}
    path = results.with_name(f"{results.stem}_images.json")
    content = read_json(path) if path.is_file() else {"categories": []}
    try:
        return {int(row["id"]): str(row["name"]) for row in content["categories"]}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: has no list of classes ({error!r}); correct or remove it") from None


def _problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "is not an object; give image_id, category_id, bbox and score"
    for name in ("image_id", "category_id"):
        if type(row.get(name)) is not int or row[name] not in WHOLE_NUMBERS:
            return f'has "{name}" {quoted(row.get(name))}; give a whole number'
    score, bbox = row.get("score"), row.get("bbox")
    if type(score) not in (int, float) or not 0 <= score <= 1:
        return f'has "score" {quoted(score)}; give a number from 0 to 1'
    numbers = isinstance(bbox, list) and all(type(side) in (int, float) and abs(side) < 1e9 for side in bbox)
    if not numbers or len(bbox) != 4 or min(bbox[2:]) < 0:
        return f'has "bbox" {quoted(bbox)}; give [x, y, width, height] in pixels'
    if not isinstance(row.get("file_name", ""), str):
        return f'has "file_name" {quoted(row["file_name"])}; give the name of a file in the folder of the images'
    return None
