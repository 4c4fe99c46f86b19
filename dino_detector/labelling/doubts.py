"""Labels that are probably wrong: in another class, loose, double or missing, the most doubtful first."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dino_detector.config.labelling import DoubtSettings
from dino_detector.data.pictures.opening import allow_megapixels
from dino_detector.errors import InputError
from dino_detector.labelling.calibration import Calibration, ImageBoxes, calibrate
from dino_detector.labelling.evidence import Boxes, label_evidence, unlabelled_evidence
from dino_detector.labelling.folds import detect_by_others, divide
from dino_detector.labelling.labelled_data import JoinedData, LabelledData
from dino_detector.models.checkpoint import read_checkpoint
from dino_detector.models.dinov2_backbone import has_frozen_layers
from dino_detector.storage.output_folder import make_output_dir
from dino_detector.structures.categories import Categories

log = logging.getLogger(__name__)

KINDS = ("class", "loose", "double")
"""kinds of doubts about a label, in the order of the calibrated states; ``missing`` is a label that is not there"""
WORK = ".doubts-"
"""first characters of the folder with temporary files"""
LEAST_MISSING = 0.02
"""least doubt of a missing label in the list"""


@dataclass(frozen=True)
class Doubt:
    """A label that is probably wrong, or an object without a label.

    Attributes:
        kind: ``class``, ``loose``, ``double`` or ``missing``: the likeliest mistake.
        doubt: probability of a mistake, 0..1, if one label in 20 has one.
        split: split of the data set.
        image_id: id of the image in the split.
        file_name: file of the image, relative to the folder of the data.
        annotation_id: id of the label in the split; None for a missing label.
        bbox: x, y, width and height of the label in pixels; None for a missing label.
        class_name: class of the label; None for a missing label.
        suggested_bbox: box of the object by the detections; None if they show none, or if the label is a double.
        suggested_class: class of the object by the detections, likewise.
        score: score of that detection, 0..1, or None.
        twin_id: id of the label that a double repeats, or None.
        twin_bbox: box of that label, or None.
        fold: fold of the image, from 0; the detector of this fold did not train on it.
    """

    kind: str
    doubt: float
    split: str
    image_id: int
    file_name: str
    annotation_id: int | None
    bbox: tuple[float, ...] | None
    class_name: str | None
    suggested_bbox: tuple[float, ...] | None
    suggested_class: str | None
    score: float | None
    twin_id: int | None
    twin_bbox: tuple[float, ...] | None
    fold: int


@dataclass(frozen=True)
class Doubts:
    """Every label, and every object that seems to lack one, the most doubtful first.

    Attributes:
        rows: the list.
        folder: folder of the images.
        images: number of images.
        labels: number of labels, without crowd regions.
        categories: the classes.
    """

    rows: tuple[Doubt, ...]
    folder: Path
    images: int
    labels: int
    categories: Categories

    def to_json(self) -> dict[str, Any]:
        """Return the list in plain Python types for ``json.dump``."""
        return {
            "images_folder": str(self.folder),
            "images": self.images,
            "labels": self.labels,
            "categories": self.categories.as_coco(),
            "doubts": [dict(vars(row)) for row in self.rows],
        }


def find_doubts(settings: DoubtSettings) -> Doubts:
    """Rank all labels of a data set by the doubt of detectors that did not train on them.

    The detectors have the settings of the checkpoint and start from new weights, because the weights of the checkpoint
    have seen the labels. No file of the data set is changed. Temporary files are in the output folder.

    Raises:
        InputError: the data or the checkpoint is wrong, or there are too few images.
    """
    header, _ = read_checkpoint(settings.checkpoint)
    shared = ("device", "seed", "num_workers", "max_megapixels") + (("epochs",) if settings.epochs else ())
    config = header.config.replace(**{name: getattr(settings, name) for name in shared})
    allow_megapixels(settings.max_megapixels)
    data, folds, seed = settings.data, settings.folds, settings.seed
    joined = LabelledData.read(data).joined()
    _require_enough(joined, data, folds)
    fold_of = divide(joined.folder, [image["file_name"] for image in joined.images], folds=folds, seed=seed)
    _require_labels_outside(joined, fold_of, data)
    # A checkpoint without the fingerprint of a base has no frozen layers. Others may have adapters on every layer.
    has_trunk = header.base_fingerprint is not None and has_frozen_layers(config.backbone)
    make_output_dir(settings.output_dir)
    with tempfile.TemporaryDirectory(dir=settings.output_dir, prefix=WORK) as work:
        cache = (settings.cache_trunk or Path(work) / "trunk") if has_trunk else None
        found = detect_by_others(joined, fold_of, config, work=Path(work), cache=cache)
    log.info("calibrate the doubts on practice mistakes")
    return rank(joined, found, fold_of, seed=seed)


def rank(joined: JoinedData, found: dict[int, list[dict[str, Any]]], fold_of: np.ndarray, *, seed: int) -> Doubts:
    """Rank labels by detections of detectors that did not train on them; see `find_doubts`.

    Args:
        joined: images and labels.
        found: detections as COCO results, by image id.
        fold_of: ``[I]`` fold of each image.
        seed: seed of the calibration.
    """
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in joined.images}
    for label in joined.labels:
        if not label["iscrowd"]:
            by_image[label["image_id"]].append(label)
    judged = []
    for image, (split, image_id), fold in zip(joined.images, joined.origins, fold_of.tolist(), strict=True):
        labels, detections = by_image[image["id"]], found[image["id"]]
        size = (image["height"], image["width"])
        boxes = ImageBoxes(_boxes(labels, joined.categories), _boxes(detections, joined.categories), size)
        place = {"split": split, "image_id": image_id, "file_name": image["file_name"], "fold": fold}
        judged.append(Judged(labels, detections, boxes, place))
    calibration = calibrate([one.boxes for one in judged], classes=np.arange(len(joined.categories)), seed=seed)
    rows: list[Doubt] = []
    for one in judged:
        rows += _of_labels(one, calibration, joined.categories)
        rows += _missing(one, calibration, joined.categories)
    rows.sort(key=lambda row: -row.doubt)
    count = sum(len(one.labels) for one in judged)
    return Doubts(tuple(rows), joined.folder, len(joined.images), count, joined.categories)


class Judged(NamedTuple):
    """An image whose labels are judged.

    Attributes:
        labels: COCO annotations, without crowd regions.
        found: detections, as COCO results.
        boxes: both as arrays.
        place: the attributes of a `Doubt` that name the image.
    """

    labels: list[dict[str, Any]]
    found: list[dict[str, Any]]
    boxes: ImageBoxes
    place: dict[str, Any]


def _of_labels(judged: Judged, calibration: Calibration, categories: Categories) -> list[Doubt]:
    """Return a doubt about each label of an image."""
    labels, found, boxes, place = judged
    if not labels:
        return []
    evidence = label_evidence(boxes.labels, boxes.found, size=boxes.size)
    states = calibration.of_labels(evidence.features)  # [N, 4]
    rows = []
    for number, label in enumerate(labels):
        kind = KINDS[int(states[number, 1:].argmax())]
        twin = evidence.twins[number] if kind == "double" else -1
        shown = evidence.detections[number] if kind != "double" else -1
        best = None if shown < 0 else found[shown]
        rows.append(
            Doubt(
                kind=kind,
                doubt=round(float(1 - states[number, 0]), 6),
                annotation_id=label["original_id"],
                bbox=tuple(label["bbox"]),
                class_name=_name(label, categories),
                suggested_bbox=None if best is None else tuple(best["bbox"]),
                suggested_class=None if best is None else _name(best, categories),
                score=None if best is None else best["score"],
                twin_id=None if twin < 0 else labels[twin]["original_id"],
                twin_bbox=None if twin < 0 else tuple(labels[twin]["bbox"]),
                **place,
            )
        )
    return rows


def _missing(judged: Judged, calibration: Calibration, categories: Categories) -> list[Doubt]:
    """Return a doubt about each object that is detected and not labelled."""
    _, found, boxes, place = judged
    evidence = unlabelled_evidence(boxes.labels, boxes.found, size=boxes.size)
    if not len(evidence.detections):
        return []
    doubts = calibration.of_unlabelled(evidence.features)
    return [
        Doubt(
            kind="missing",
            doubt=round(float(doubt), 6),
            annotation_id=None,
            bbox=None,
            class_name=None,
            suggested_bbox=tuple(found[row]["bbox"]),
            suggested_class=_name(found[row], categories),
            score=found[row]["score"],
            twin_id=None,
            twin_bbox=None,
            **place,
        )
        for row, doubt in zip(evidence.detections.tolist(), doubts, strict=True)
        if doubt >= LEAST_MISSING
    ]


def _boxes(rows: list[dict[str, Any]], categories: Categories) -> Boxes:
    """Return COCO annotations or results as arrays."""
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    classes = np.array([categories.label(row["category_id"]) for row in rows], np.int64)
    scores = np.array([row.get("score", 1.0) for row in rows], np.float64)
    return Boxes(np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), classes, scores)


def _name(row: dict[str, Any], categories: Categories) -> str:
    return categories.names[categories.label(row["category_id"])]


def _require_enough(joined: JoinedData, data: Path, folds: int) -> None:
    """Raise `InputError` if there are too few images or labels for the folds."""
    labelled = {label["image_id"] for label in joined.labels if not label["iscrowd"]}
    if len(labelled) < folds:
        raise InputError(
            f"{data}: {len(labelled)} of its {len(joined.images)} images have labels, and --folds {folds} needs at "
            f"least {folds}; label more images"
        )


def _require_labels_outside(joined: JoinedData, fold_of: np.ndarray, data: Path) -> None:
    """Raise `InputError` if all labels are in one fold, so that its detector would train without a label."""
    rows = [label["image_id"] - 1 for label in joined.labels if not label["iscrowd"]]
    if len(np.unique(fold_of[rows])) < 2:
        raise InputError(f"{data}: all labels are in near-copies of one image, which nothing can judge; add images")
