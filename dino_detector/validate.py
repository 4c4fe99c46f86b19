"""COCO evaluation: results and ground truth in, the twelve COCO metrics out.

hotcoco computes the metrics of the COCO detection challenge (https://cocodataset.org/#detection-eval); the tests
compare them with pycocotools. `dino_detector.training.evaluation` detects in the validation images and calls
`coco_metrics`; `dino_detector.structures.metrics` holds the metrics, and `dino_detector.structures.evaluation_files`
writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dino_detector.config import MAX_DETECTIONS
from dino_detector.errors import InputError
from dino_detector.structures.metrics import ClassMetrics, CocoMetrics

if TYPE_CHECKING:
    from hotcoco import COCOeval


class CocoEvaluation(NamedTuple):
    """Metrics, and the arrays that they average; -1 means that there is no such ground truth.

    T: IoU thresholds 0.50, 0.55 .. 0.95. R: recall 0.00, 0.01 .. 1.00. C: categories by ascending id. A: areas all,
    small, medium, large. M: 1, 10 or ``max_detections`` detections per image and class.
    """

    metrics: CocoMetrics
    precision: np.ndarray
    """``[T, R, C, A, M]``, interpolated: the best precision at that recall or above"""
    recall: np.ndarray
    """``[T, C, A, M]``, the highest recall"""
    evaluator: COCOeval
    """hotcoco's evaluator, for its other statistics; its images and categories are renumbered from 1"""


def coco_metrics(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    image_ids: Iterable[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> CocoMetrics:
    """Compute the metrics of results in images of the ground truth.

    Every evaluated image counts, also without annotations or results. Results of other images of the ground truth are
    left out. Each result must be given once: if several processes detect in the same image, keep the results of one.
    The arguments stay unchanged.

    Args:
        ground_truth: a COCO detection data set, as parsed from its JSON.
        results: COCO results, for example of `coco_results`; may be empty.
        image_ids: the images to evaluate; None means all images of the ground truth.
        max_detections: detections per image and class that count.

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
    """Compute the metrics of `coco_metrics`, with the precision and recall that they average."""
    from hotcoco import COCO, COCOeval

    known = {image["id"] for image in ground_truth["images"]}
    wanted = known if image_ids is None else set(image_ids)
    _check_ids(ground_truth, known=known, wanted=wanted, results=results)

    # Renumber images, annotations and categories from 1: ids of a data set have any size and sign.
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
    """Return a COCO data set of the annotations with new numbers of images and categories."""
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
    """Return the twelve metrics in the order of the fields of `CocoMetrics`."""
    everywhere, most = 0, -1
    chosen = [
        *(precision[thresholds, ..., everywhere, most] for thresholds in (slice(None), 0, 5)),
        *(precision[..., area, most] for area in (1, 2, 3)),
        *(recall[..., everywhere, limit] for limit in (0, 1, 2)),
        *(recall[..., area, most] for area in (1, 2, 3)),
    ]
    known = [values[values > -1] for values in chosen]
    return [float(values.mean()) if values.size else -1.0 for values in known]


def _check_ids(
    ground_truth: dict[str, Any], *, known: set[int], wanted: set[int], results: list[dict[str, Any]]
) -> None:
    """Raise `InputError` if an id is unknown, or no image is wanted."""
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
    """Return the area of an annotation in square pixels; without one, the area of its box."""
    area = annotation.get("area")
    return annotation["bbox"][2] * annotation["bbox"][3] if area is None else area
