"""COCO metrics and result files.

The metrics are those of the COCO detection challenge (https://cocodataset.org/#detection-eval), computed by
hotcoco; the tests hold them equal to pycocotools. Formats: https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.config.evaluation import MAX_DETECTIONS
from dino_detector.errors import InputError
from dino_detector.plain_text import quoted
from dino_detector.storage.files import read_json, write_whole
from dino_detector.structures.categories import distinct
from dino_detector.structures.detections import ImageDetections

if TYPE_CHECKING:
    from hotcoco import COCOeval

    from dino_detector.structures.categories import Categories

log = logging.getLogger(__name__)

PRECISION = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class ClassMetrics:
    """Average precision of one class; -1 where the class has no ground truth."""

    category_id: int
    name: str
    AP: float
    """mean over the IoU thresholds 0.50, 0.55 .. 0.95"""
    AP50: float
    """at IoU 0.50"""
    boxes: int
    """ground truth boxes in the evaluated images, crowds not counted"""


@dataclass(frozen=True)
class CocoMetrics:
    """The twelve COCO numbers, 0..1, and the classes they average over; -1 where no such ground truth exists.

    AP and AR are means over the IoU thresholds 0.50, 0.55 .. 0.95. s, m and l are areas below 32², from 32² to 96² and
    above 96² square pixels. AR1 and AR10 count 1 and 10 detections of an image and class; all other numbers count
    ``max_detections``. Files and tables name AR100 by that limit, for example AR300.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: tuple[ClassMetrics, ...]
    """by ascending category id"""
    num_images: int
    """evaluated images, with or without annotations"""
    num_detections: int
    """results in the evaluated images"""
    max_detections: int = MAX_DETECTIONS
    """detections of an image and class that count"""

    @property
    def numbers(self) -> dict[str, float]:
        """The twelve numbers by the names that they have with these ``max_detections``."""
        recall = {"AR1": self.AR1, "AR10": self.AR10, f"AR{self.max_detections}": self.AR100}
        recall |= {"ARs": self.ARs, "ARm": self.ARm, "ARl": self.ARl}
        return {name: getattr(self, name) for name in PRECISION} | recall

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of ``per_class``, with the id behind those that several share."""
        return distinct([row.category_id for row in self.per_class], [row.name for row in self.per_class])

    @classmethod
    def read(cls, path: Path) -> CocoMetrics:
        """Read the numbers from a file that `write` wrote; extra entries are left out.

        Raises:
            InputError: the file is missing or not JSON, or a number is missing or out of range.
        """
        try:
            content = read_json(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as JSON ({error}); correct the file or the path") from error
        try:
            numbers = _checked(_with_plain_names(content), CocoMetrics)
            numbers["per_class"] = tuple(ClassMetrics(**_checked(row, ClassMetrics)) for row in numbers["per_class"])
            return cls(**numbers)
        except ValueError as error:
            remedy = "give a val_metrics*.json that training or evaluation wrote"
            raise InputError(f"{path}: not metrics of this program, {error}; {remedy}") from None

    def to_json(self) -> dict[str, Any]:
        """The numbers under the names of their fields, ready for ``json.dump``."""
        rest = ("num_images", "num_detections", "max_detections")
        classes = [dict(vars(metrics)) for metrics in self.per_class]
        return {**self.numbers, "per_class": classes, **{name: getattr(self, name) for name in rest}}

    def write(self, path: Path, **extra: Any) -> None:
        """Write the numbers as a JSON object, with ``extra`` entries (epoch, seconds) before them.

        The file is complete or absent: it is written beside ``path`` and then moved.
        """
        numbers = self.to_json()
        assert not numbers.keys() & extra.keys(), f"extra entries {sorted(extra)} would replace metrics"
        write_whole(path, json.dumps({**extra, **numbers}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def coco_results(image_id: int, detections: ImageDetections, categories: Categories) -> list[dict[str, Any]]:
    """The detections of an image in COCO's results format, in the order of ``detections``.

    Each is ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`` in plain ints and floats, with
    the data set's own category ids and boxes in pixels, to a thousandth.
    """
    results = []
    rows = zip(
        detections.boxes_xyxy.tolist(),  # [N, 4]
        detections.scores.tolist(),  # [N]
        detections.labels.tolist(),  # [N]
        strict=True,
    )
    for (left, top, right, bottom), score, label in rows:
        bbox = [round(number, 3) for number in (left, top, right - left, bottom - top)]
        results.append({"image_id": image_id, "category_id": categories.id(label), "bbox": bbox, "score": score})
    return results


class CocoEvaluation(NamedTuple):
    """The metrics, and the arrays that they are means of; -1 where no such ground truth exists.

    T: IoU thresholds 0.50, 0.55 .. 0.95. R: recall 0.00, 0.01 .. 1.00. C: categories by ascending id. A: areas all,
    small, medium, large. M: 1, 10 or ``max_detections`` of an image and class.
    """

    metrics: CocoMetrics
    precision: np.ndarray
    """``[T, R, C, A, M]``, interpolated: the best precision at that recall or above"""
    recall: np.ndarray
    """``[T, C, A, M]``, the highest recall"""
    evaluator: COCOeval
    """hotcoco's evaluator, for its other statistics; its images and categories are numbered afresh from 1"""


def coco_metrics(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    image_ids: Iterable[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> CocoMetrics:
    """Score results against the ground truth of ``image_ids``, or of all its images.

    Every one of these images counts, also those without annotations or results. Results of other images of the
    ground truth are left out. An image's results must be given once: several processes that evaluated the same
    image would count its detections twice. Neither argument is changed.

    Args:
        ground_truth: a COCO detection data set, as parsed from its JSON.
        results: COCO results, for example of :func:`coco_results`; may be empty.
        image_ids: the images to evaluate, a subset of those in the ground truth.
        max_detections: detections of an image and class that count.

    Raises:
        InputError: there is no image to evaluate, or an image or a category is not in the ground truth.
    """
    return coco_evaluation(ground_truth, results, image_ids=image_ids, max_detections=max_detections).metrics


def coco_evaluation(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    image_ids: Iterable[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> CocoEvaluation:
    """Return the metrics of :func:`coco_metrics` with the precision and recall that they average."""
    from hotcoco import COCO, COCOeval

    known = {image["id"] for image in ground_truth["images"]}
    wanted = known if image_ids is None else set(image_ids)
    _check_ids(ground_truth, known=known, wanted=wanted, results=results)

    # Images, annotations and categories are numbered afresh from 1: ids of any size and sign may come in.
    images = {image_id: number for number, image_id in enumerate(sorted(wanted), start=1)}
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    classes = {category["id"]: number for number, category in enumerate(categories, start=1)}
    annotations = [annotation for annotation in ground_truth["annotations"] if annotation["image_id"] in images]
    rows = [
        (images[result["image_id"]], *result["bbox"], result["score"], classes[result["category_id"]])
        for result in results
        if result["image_id"] in images
    ]
    truth = COCO(_renumbered(annotations, images, classes))
    evaluation = COCOeval(truth, truth.load_res(np.array(rows, np.float64) if rows else []), "bbox")
    parameters = evaluation.params
    parameters.max_dets = [1, 10, max_detections]
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()

    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    metrics = CocoMetrics(
        *_summary(precision, recall),
        per_class=_class_metrics(precision, categories, annotations),
        num_images=len(wanted),
        num_detections=len(rows),
        max_detections=max_detections,
    )
    return CocoEvaluation(metrics, precision, recall, evaluation)


def _renumbered(annotations: list[dict[str, Any]], images: dict[int, int], classes: dict[int, int]) -> dict[str, Any]:
    """Return a COCO data set of annotations under the new numbers of their images and categories."""
    return {
        "images": [{"id": number} for number in images.values()],
        "annotations": [
            {
                "id": number,
                "image_id": images[annotation["image_id"]],
                "category_id": classes[annotation["category_id"]],
                "bbox": annotation["bbox"],
                "area": _area(annotation),
                "iscrowd": annotation.get("iscrowd", 0),
            }
            for number, annotation in enumerate(annotations, start=1)
        ],
        "categories": [{"id": number, "name": str(number)} for number in classes.values()],
    }


def _class_metrics(
    precision: np.ndarray, categories: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> tuple[ClassMetrics, ...]:
    """Return the AP of each category from precision ``[T, R, C, A, M]``."""
    all_areas = precision[..., 0, -1]  # [T, R, C] at max_detections; -1 throughout for a class without ground truth
    boxes = Counter(annotation["category_id"] for annotation in annotations if not annotation.get("iscrowd", 0))
    return tuple(
        ClassMetrics(
            category_id=category["id"],
            name=category["name"],
            AP=float(all_areas[:, :, index].mean()),
            AP50=float(all_areas[0, :, index].mean()),
            boxes=boxes[category["id"]],
        )
        for index, category in enumerate(categories)
    )


def _summary(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """The twelve numbers, in the order of the fields of `CocoMetrics`."""
    everywhere, most = 0, -1
    chosen = [
        *(precision[thresholds, ..., everywhere, most] for thresholds in (slice(None), 0, 5)),
        *(precision[..., area, most] for area in (1, 2, 3)),
        *(recall[..., everywhere, limit] for limit in (0, 1, 2)),
        *(recall[..., area, most] for area in (1, 2, 3)),
    ]
    known = [values[values > -1] for values in chosen]
    return [float(values.mean()) if values.size else -1.0 for values in known]


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write COCO results as a JSON array, one result a line, by image id and then as given.

    The order does not depend on which process saw which image. The file is complete or absent.
    """
    ordered = sorted(results, key=lambda result: result["image_id"])
    lines = ",\n".join(json.dumps(result, allow_nan=False) for result in ordered)
    write_whole(path, f"[\n{lines}\n]\n")


class EvaluationFiles(NamedTuple):
    """The two files of an evaluation, and the data that it was made on, which the first one names."""

    metrics: Path
    predictions: Path
    images: Path
    """folder of the evaluated images"""
    annotations: Path
    """COCO detection JSON that has them, among others perhaps"""

    @classmethod
    def of(cls, folder: Path, ending: str, *, images: Path, annotations: Path) -> EvaluationFiles:
        """``val_metrics`` and ``val_predictions`` in a folder, with an ending such as ``_epoch_3``."""
        metrics, predictions = (folder / f"val_{kind}{ending}.json" for kind in ("metrics", "predictions"))
        return cls(metrics, predictions, images, annotations)

    @classmethod
    def named_in(cls, path: Path) -> EvaluationFiles | None:
        """Return the files that a metrics file names, whether they exist or not; None where it names none."""
        content = read_json(path)
        values = [content.get(name) for name in ("predictions", "val_images", "val_annotations")]
        if not all(isinstance(value, str) and value for value in values):
            return None
        predictions, images, annotations = values
        return cls(path, path.with_name(Path(predictions).name), Path(images), Path(annotations))

    def write(self, metrics: CocoMetrics, results: list[dict[str, Any]], **extra: Any) -> None:
        """Write detections and then metrics, with ``extra`` entries before them; each file is complete or absent."""
        write_results(self.predictions, results)
        data = {"val_images": str(self.images.resolve()), "val_annotations": str(self.annotations.resolve())}
        metrics.write(self.metrics, **extra, predictions=self.predictions.name, **data)


def _with_plain_names(content: Any) -> Any:
    """Return the content of a metrics file with its recall at ``max_detections`` renamed to AR100."""
    if not isinstance(content, dict):
        return content
    limit = content.get("max_detections", MAX_DETECTIONS)  # files of other tools may lack it
    named = {"max_detections": limit, **content}
    return named | {"AR100": content[f"AR{limit}"]} if f"AR{limit}" in content else named


def _checked(entry: Any, kind: type) -> dict[str, Any]:
    """Return the entries that are fields of a dataclass; raise `ValueError` where one is missing or invalid."""
    if not isinstance(entry, dict):
        raise ValueError(f"it has {quoted(entry)} where names and numbers belong")
    values = {item.name: entry.get(item.name) for item in fields(kind)}
    for item in fields(kind):
        value = values[item.name]
        valid = {
            "float": type(value) in (int, float) and (value == -1 or 0 <= value <= 1),
            "int": type(value) is int and (value >= 0 or item.name == "category_id"),
            "str": isinstance(value, str),
        }
        if not valid.get(item.type, isinstance(value, list)):
            raise ValueError(f'its "{item.name}" is {"missing" if item.name not in entry else quoted(value)}')
    return values


def _check_ids(
    ground_truth: dict[str, Any], *, known: set[int], wanted: set[int], results: list[dict[str, Any]]
) -> None:
    if not wanted:
        raise InputError("there are no images to evaluate; name at least one image of the annotations")
    if missing := wanted - known:
        raise InputError(f'image {min(missing)} is to be evaluated, but is not in the annotations\' "images"')
    category_ids = {category["id"] for category in ground_truth["categories"]}
    for annotation in ground_truth["annotations"]:
        if annotation["category_id"] not in category_ids:
            raise InputError(
                f"an annotation of image {annotation['image_id']} has category {annotation['category_id']}, which is "
                'not in the annotations\' "categories"; add the category or remove the annotation'
            )
    for result in results:
        if result["image_id"] not in known:
            raise InputError(
                f'a result refers to image {result["image_id"]}, which is not in the annotations\' "images"; '
                "evaluate results against the annotations of their own images"
            )
        if result["category_id"] not in category_ids:
            raise InputError(
                f"a result of image {result['image_id']} has category {result['category_id']}, which is not in the "
                'annotations\' "categories"; evaluate results against the categories they were made with'
            )


def _area(annotation: dict[str, Any]) -> float:
    """Return the area of an annotation in square pixels, or the area of its box where the file has none."""
    area = annotation.get("area")
    return annotation["bbox"][2] * annotation["bbox"][3] if area is None else area
