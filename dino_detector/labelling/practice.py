"""Practice mistakes: copies of the labels with known mistakes, on which the doubt is calibrated.

The detectors did not train on the labels of an image, so a mistake that is made afterwards looks to them like a mistake
of the user. Kinds and amounts are assumed: one label in 80 has each kind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dino_detector.labelling.evidence import Boxes, ious

FINE, WRONG_CLASS, LOOSE, DOUBLE = range(4)
"""states of a label"""
SPOILED_SHARE = 0.2
"""share of the labels of an image with a practice mistake; the calibration weighs them down to `ASSUMED_SHARE`"""
ASSUMED_SHARE = 1 / 80
"""assumed share of the labels with a mistake of each kind"""
IOU_OF_LOOSE = (0.25, 0.65)
IOU_OF_DOUBLE = (0.65, 1.0)
TRIES = 50


class Practice(NamedTuple):
    """Labels of an image with practice mistakes.

    Attributes:
        labels: the changed labels.
        states: ``[N]`` int64, `FINE`, `WRONG_CLASS`, `LOOSE` or `DOUBLE`.
        removed: ``[R, 4]`` boxes of removed labels.
    """

    labels: Boxes
    states: np.ndarray
    removed: np.ndarray


def spoiled(labels: Boxes, *, classes: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> Practice:
    """Return the labels of an image with practice mistakes, in equal parts of each kind.

    Args:
        labels: labels of the image.
        classes: all classes, to draw a wrong one.
        size: height and width of the image in pixels.
        rng: source of randomness.
    """
    count = len(labels.classes)
    xyxy, own, states = labels.xyxy.copy(), labels.classes.copy(), np.zeros(count, np.int64)
    keep, copies = np.ones(count, bool), []
    for row in np.flatnonzero(rng.random(count) < SPOILED_SHARE).tolist():
        kind = int(rng.integers(4))
        if kind == FINE:  # stands for a removed label
            keep[row] = False
        elif kind == WRONG_CLASS:
            others = classes[classes != own[row]]
            if len(others):
                own[row], states[row] = others[rng.integers(len(others))], WRONG_CLASS
        elif kind == LOOSE:
            moved = shifted(xyxy[row], IOU_OF_LOOSE, size=size, rng=rng)
            if moved is not None:
                xyxy[row], states[row] = moved, LOOSE
        else:
            moved = shifted(xyxy[row], IOU_OF_DOUBLE, size=size, rng=rng)
            if moved is not None:
                copies.append((moved, own[row]))
    if copies:
        xyxy = np.concatenate([xyxy, [box for box, _ in copies]])
        own = np.concatenate([own, [label for _, label in copies]])
        states = np.concatenate([states, np.full(len(copies), DOUBLE)])
        keep = np.concatenate([keep, np.ones(len(copies), bool)])
    return Practice(Boxes(xyxy[keep], own[keep], np.ones(keep.sum())), states[keep], xyxy[~keep])


def shifted(
    box: np.ndarray, wanted: tuple[float, float], *, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    """Return a box ``[4]`` inside the image whose IoU with ``box`` is in a range; None if the tries find none."""
    sides = box[2:] - box[:2]
    spread = 1 - wanted[0]
    edges = box + np.concatenate([sides, sides]) * rng.uniform(-spread, spread, (TRIES, 4)) * 0.7
    limit = np.array([size[1], size[0], size[1], size[0]])
    edges = np.clip(edges, 0, limit)
    edges = edges[(edges[:, 2:] - edges[:, :2] > 1).all(axis=1)]
    overlap = ious(edges, box[None])[:, 0]
    good = np.flatnonzero((overlap >= wanted[0]) & (overlap <= wanted[1]))
    return None if not len(good) else edges[good[0]]
