"""Which pictures to label next: uncertain ones, spread over the features of the frozen trunk.

Settles: Active Learning Literature Survey (2009), section 3.1 (uncertainty sampling). Brust, Käding, Denzler: Active
Learning for Deep Object Detection. 2018, arXiv:1809.09875 (sums over the detections of an image, weights of classes).
Sener, Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach. 2018, arXiv:1708.00489
(greedy k-center in feature space).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dino_detector.config.commands import InferenceSettings
from dino_detector.config.labelling import SuggestSettings
from dino_detector.data.holdout import near_copies
from dino_detector.data.pictures.decoding import readable_images
from dino_detector.data.pictures.finding import find_pictures
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, load_detector
from dino_detector.labelling.evidence import ious
from dino_detector.labelling.labelled_data import LabelledData
from dino_detector.models.device import autocast_to
from dino_detector.plain_text import counted
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections

log = logging.getLogger(__name__)

SAME_OBJECT = 0.5
"""IoU from which two detections are of one object; the one with the higher score counts"""
LEAST_SCORE = 0.05
"""least score of a detection that may be an object"""
WORK_WEIGHT = 1.0
"""exponent of the expected number of labels; 0 would choose crowded pictures"""
DISTANCE_WEIGHT = 1.0
"""exponent of the distance to the nearest chosen picture; 0 would choose by uncertainty alone"""
NAMED = 3
"""uncertain detections that a reason names"""


class Looked(NamedTuple):
    """What the detector sees in N pictures.

    Attributes:
        files: the pictures that can be read.
        found: detections of each.
        features: ``[N, D]`` float32, of unit length: the mean patch of the trunk's last layer, centred on the mean of
            all pictures.
        unreadable: one line for each picture that can't be read.
    """

    files: list[Path]
    found: list[ImageDetections]
    features: np.ndarray
    unreadable: list[str]


@dataclass(frozen=True)
class Suggestion:
    """A picture to label.

    Attributes:
        file: the picture.
        uncertainty: expected benefit of its detections, from 0; see `uncertainties`.
        distance: distance to the nearest picture that is labelled or was suggested before, 0..2.
        reason: why it was chosen, in words.
        uncertain: detections near a score of one half, as class name, score and box (x, y, width, height in pixels).
    """

    file: Path
    uncertainty: float
    distance: float
    reason: str
    uncertain: tuple[tuple[str, float, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Suggestions:
    """Pictures to label, in the order in which they were chosen.

    Attributes:
        rows: the pictures.
        looked_at: number of pictures that were candidates.
        left_out: number of pictures that were no candidates, because they have labels or are copies of one that has.
        unreadable: one line for each picture that can't be read.
    """

    rows: tuple[Suggestion, ...]
    looked_at: int
    left_out: int
    unreadable: tuple[str, ...]


def suggest(
    settings: SuggestSettings, inference: InferenceSettings, *, advance: Callable[[int, int], None]
) -> Suggestions:
    """Choose pictures of a folder to label next; ``advance`` takes the numbers of done and of all pictures.

    Raises:
        InputError: the checkpoint or the labelled data is wrong, or the folder has no picture to label.
    """
    folder, labelled = settings.folder, settings.labelled
    detector = load_detector(settings.checkpoint, inference)
    pictures = find_pictures(folder, recursive=settings.recursive).pictures
    known: list[Path] = [] if labelled is None else labelled_pictures(LabelledData.read(labelled))
    same = {path.resolve() for path in known}
    new = [path for path in pictures if path.resolve() not in same]
    if not new:
        raise InputError(f"{folder}: all of its {counted(len(pictures), 'picture')} have labels; give another folder")
    total = len(new) + len(known)
    size = inference.batch_size
    looked = look_at(detector, [*known, *new], batch_size=size, advance=lambda done: advance(done, total))
    groups = near_copies(Path("/"), [path.resolve().as_posix().lstrip("/") for path in looked.files])
    is_labelled = np.array([path.resolve() in same for path in looked.files])
    value = uncertainties(looked.found, detector.categories)
    chosen = choose(value, looked.features, groups, is_labelled, count=settings.count)
    left_out = len(pictures) - len(new)
    rows = tuple(_suggestion(looked, pick, detector.categories, first=not number) for number, pick in enumerate(chosen))
    return Suggestions(rows, int((~is_labelled).sum()), left_out, tuple(looked.unreadable))


def labelled_pictures(data: LabelledData) -> list[Path]:
    """Return the files of all pictures that have a label."""
    files = []
    for split in data.splits:
        having = np.unique(split.annotations.entries.image_indices)
        names = split.annotations.images.at(having).file_names
        files += [split.folder / name for name in names]
    return files


def look_at(
    detector: Detector, files: Sequence[Path], *, batch_size: int, advance: Callable[[int], None] = lambda done: None
) -> Looked:
    """Detect in pictures, and keep the features of the trunk."""
    readable: list[Path] = []
    found: list[ImageDetections] = []
    features: list[np.ndarray] = []
    unreadable: list[str] = []

    images = readable_images(files, unreadable, white_level=detector.white_level)
    while batch := list(islice(images, batch_size)):
        positions, pixels = zip(*batch, strict=True)
        detections, means = _detected(detector, pixels)
        readable += [files[position] for position in positions]
        found += detections
        features.append(means)
        advance(len(readable) + len(unreadable))
    if not readable:
        raise InputError(f"none of the {len(files)} pictures can be read; the first: {unreadable[0]}")
    table = np.concatenate(features)
    table = table - table.mean(axis=0)
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-6)
    return Looked(readable, found, table, unreadable)


@torch.inference_mode()
def _detected(detector: Detector, images: Sequence[Tensor]) -> tuple[list[ImageDetections], np.ndarray]:
    """Return the detections in a batch, and the mean patch ``[B, D]`` of the trunk's last layer."""
    backbone = detector.backbone
    with autocast_to(detector.inference_precision, detector.device):
        tokens = backbone.trunk(detector.prepare(images))
        patches = tokens.hidden[:, backbone.num_prefix_tokens :]
        if not backbone.trunk_depth:  # the whole backbone was trained, and the trunk holds the embeddings alone
            patches = backbone.tail(tokens)[-1].flatten(2).transpose(1, 2)
    return detector.detect(images, tokens=tokens), patches.float().mean(dim=1).cpu().numpy()


def objects_in(found: ImageDetections) -> ImageDetections:
    """Return one detection of each object: the one with the highest score, by descending score."""
    candidates = found.above(LEAST_SCORE)
    boxes = candidates.boxes_xyxy.numpy()
    overlap = ious(boxes, boxes)
    kept: list[int] = []
    for row in range(len(boxes)):
        if (overlap[row, kept] < SAME_OBJECT).all():
            kept.append(row)
    return ImageDetections(*(column[kept] for column in candidates))


def uncertainties(found: Sequence[ImageDetections], categories: Categories) -> np.ndarray:
    """Return the uncertainty ``[N]`` of each picture: its expected number of uncertain objects for each label it needs.

    An object with the score s is there with probability s and has the entropy of s. Classes have the inverse of their
    expected number of objects as weights, so rare classes count as much as frequent ones. The sum over the objects of a
    picture is divided by a power of the expected number of labels, which is the work of labelling it.
    """
    objects = [(one.scores.numpy().astype(np.float64), one.labels.numpy()) for one in map(objects_in, found)]
    expected = np.zeros(len(categories))
    for scores, labels in objects:
        np.add.at(expected, labels, scores)
    weights = expected.sum() / len(categories) / np.maximum(expected, 1.0)
    return np.array(
        [
            float((scores * entropies(scores) * weights[labels]).sum() / (1 + scores.sum()) ** WORK_WEIGHT)
            for scores, labels in objects
        ]
    )


def entropies(scores: np.ndarray) -> np.ndarray:
    """Return the entropy of scores in bits: 1 at one half, 0 at 0 and 1."""
    bounded = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    return -(bounded * np.log2(bounded) + (1 - bounded) * np.log2(1 - bounded))


class Pick(NamedTuple):
    """A chosen picture: its position, its uncertainty, and its distance to the nearest labelled or earlier picture."""

    row: int
    uncertainty: float
    distance: float


def choose(
    uncertainty: np.ndarray, features: np.ndarray, groups: np.ndarray, is_labelled: np.ndarray, *, count: int
) -> list[Pick]:
    """Choose pictures one by one: each has the largest product of uncertainty and distance to the nearest neighbour.

    A neighbour is a labelled picture, or one that was chosen before. A group of near-copies gives one picture at most,
    and none if one of it is labelled.

    Args:
        uncertainty: ``[N]``, from 0.
        features: ``[N, D]`` of unit length.
        groups: ``[N]`` group of near-copies of each picture.
        is_labelled: ``[N]`` bool.
        count: largest number of pictures.
    """
    free = ~is_labelled & ~np.isin(groups, groups[is_labelled])
    distance = np.full(len(features), np.inf)
    for row in np.flatnonzero(is_labelled):
        distance = np.minimum(distance, 1 - features @ features[row])
    value = uncertainty / max(float(uncertainty.max(initial=0.0)), 1e-9) + 1e-3  # pictures without a detection, too
    picks: list[Pick] = []
    while len(picks) < count and free.any():
        near = np.minimum(np.where(np.isinf(distance), 1.0, np.maximum(distance, 0.0)), 2.0)
        gain = np.where(free, value * near**DISTANCE_WEIGHT, -1.0)
        row = int(gain.argmax())
        picks.append(Pick(row, float(uncertainty[row]), float(near[row])))
        free &= groups != groups[row]
        distance = np.minimum(distance, 1 - features @ features[row])
    return picks


def _suggestion(looked: Looked, pick: Pick, categories: Categories, *, first: bool) -> Suggestion:
    objects = objects_in(looked.found[pick.row])
    order = np.argsort(-entropies(objects.scores.numpy()), kind="stable").tolist()
    uncertain = []
    for row in order:
        score = float(objects.scores[row])
        if not 0.15 <= score <= 0.85:
            continue
        left, top, right, bottom = objects.boxes_xyxy[row].tolist()
        name = categories.shown[int(objects.labels[row])]
        uncertain.append((name, round(score, 3), (left, top, right - left, bottom - top)))
    if uncertain:
        named = ", ".join(f"{name} {score:.2f}" for name, score, _ in uncertain[:NAMED])
        more = ", ..." if len(uncertain) > NAMED else ""
        reason = f"{counted(len(uncertain), 'uncertain object')}: {named}{more}"
    else:
        reason = "no uncertain object"
    if not first or pick.distance < 1:
        how = "unlike" if pick.distance >= 0.5 else "a little unlike"
        reason += f"; {how} the pictures before it (distance {pick.distance:.2f})"
    return Suggestion(looked.files[pick.row], pick.uncertainty, pick.distance, reason, tuple(uncertain))
