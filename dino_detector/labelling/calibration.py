"""From evidence to one doubt: the probability that a label, or an object without a label, is a mistake.

Two small networks learn it from practice mistakes. The kinds of mistakes share one scale, so they can be ranked in one
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dino_detector.labelling.evidence import SAME_OBJECT, Boxes, ious, label_evidence, unlabelled_evidence
from dino_detector.labelling.practice import ASSUMED_SHARE, DOUBLE, FINE, SPOILED_SHARE, spoiled

WANTED = 3_000
"""number of practice mistakes from which more make no difference"""
MOST_ROUNDS = 30
WEIGHT = ASSUMED_SHARE / (SPOILED_SHARE / 4)
"""weight of a practice mistake"""
HIDDEN, STEPS, RATE, DECAY = 24, 300, 0.02, 1e-3
"""width of the networks; steps, learning rate and weight decay of their training"""


class ImageBoxes(NamedTuple):
    """Labels and detections of an image, and its height and width in pixels."""

    labels: Boxes
    found: Boxes
    size: tuple[int, int]


class Calibration(NamedTuple):
    """Two networks from features to the log-odds of states: of labels, and of objects without a label."""

    labels: nn.Module
    unlabelled: nn.Module

    def of_labels(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each state ``[N, 4]`` of labels with features ``[N, F]``."""
        return _probabilities(self.labels, features)

    def of_unlabelled(self, features: np.ndarray) -> np.ndarray:
        """Return the probability ``[M]`` that a label is missing, from features ``[M, G]``."""
        return _probabilities(self.unlabelled, features)[:, 1]


def calibrate(images: Sequence[ImageBoxes], *, classes: np.ndarray, seed: int) -> Calibration:
    """Learn from practice mistakes in images with labels and detections by detectors that did not train on them."""
    rng = np.random.default_rng(seed)
    count = sum(len(image.labels.classes) for image in images)
    rounds = int(np.clip(np.ceil(WANTED / max(1, SPOILED_SHARE * count)), 1, MOST_ROUNDS))
    features, states, open_features, missing = [], [], [], []
    for image in (image for _ in range(rounds) for image in images):
        practice = spoiled(image.labels, classes=classes, size=image.size, rng=rng)
        evidence = label_evidence(practice.labels, image.found, size=image.size)
        state = practice.states.copy()
        for row in np.flatnonzero(state == DOUBLE).tolist():
            twin = evidence.twins[row]
            if twin >= 0 and not evidence.weaker[row] and state[twin] == FINE:  # the weaker of two is the double
                state[row], state[twin] = FINE, DOUBLE
        features.append(evidence.features)
        states.append(state)
        others = unlabelled_evidence(practice.labels, image.found, size=image.size)
        open_features.append(others.features)
        overlap = ious(image.found.xyxy[others.detections], practice.removed)
        missing.append(overlap.max(axis=1, initial=0.0) >= SAME_OBJECT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Calibration(
            _trained(np.concatenate(features), np.concatenate(states), kinds=4),
            _trained(np.concatenate(open_features), np.concatenate(missing).astype(np.int64), kinds=2),
        )


class _Network(nn.Module):
    """A network with one hidden layer on standardised features."""

    def __init__(self, mean: torch.Tensor, spread: torch.Tensor, *, states: int) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        self.layers = nn.Sequential(nn.Linear(len(mean), HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, states))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers((features - self.mean) / self.spread)


def _trained(features: np.ndarray, states: np.ndarray, *, kinds: int) -> nn.Module:
    inputs, targets = torch.tensor(features, dtype=torch.float32), torch.tensor(states)
    center, spread = torch.zeros(inputs.shape[1]), torch.ones(inputs.shape[1])
    if len(inputs):
        center, spread = inputs.mean(0), inputs.std(0, correction=0).clamp_min(1e-3)
    network = _Network(center, spread, states=kinds)
    weights = torch.where(targets == FINE, 1.0, WEIGHT)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(network(inputs), targets, reduction="none")
        ((losses * weights).sum() / weights.sum().clamp_min(1)).backward()
        optimizer.step()
    return network.eval()


def _probabilities(network: nn.Module, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.tensor(features, dtype=torch.float32)).softmax(dim=1).numpy().astype(np.float64)
