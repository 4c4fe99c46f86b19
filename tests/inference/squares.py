"""Pictures of squares, and a detector that finds the visible part of each square exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dino_detector.structures.detections import ImageDetections

SMALLEST = 0.05
"""smallest detectable side as a share of the view: smaller squares would be lost in the network's input"""


class Scene:
    """A dark picture on which squares are painted, later ones over earlier ones.

    Attributes:
        image: uint8 ``[3, H, W]``: the number of the square, its class plus 1, and 255 times the score.
        painted: ``(left, top, right, bottom, label)`` of each square.
    """

    def __init__(self, height: int, width: int) -> None:
        self.image = torch.zeros(3, height, width, dtype=torch.uint8)
        self.painted: list[tuple[int, int, int, int, int]] = []

    def paint(self, left: int, top: int, right: int, bottom: int, *, label: int = 0, score: float = 0.8) -> None:
        self.painted.append((left, top, right, bottom, label))
        colour = torch.tensor([len(self.painted), label + 1, round(255 * score)], dtype=torch.uint8)
        self.image[:, top:bottom, left:right] = colour[:, None, None]

    def shine(self, left: int, top: int, right: int, bottom: int, *, score: float) -> None:
        """Change the scores in a region; a partly visible square scores the mean of its visible part."""
        self.image[2, top:bottom, left:right] = round(255 * score)


def find_squares(images: Sequence[Tensor]) -> list[ImageDetections]:
    """Detect at most 100 squares in each image, by falling score, like `Detector.detect`."""
    return [_find(image) for image in images]


def _find(image: Tensor) -> ImageDetections:
    rows = []
    for number in image[0].unique().tolist():
        there = image[0] == number
        ys, xs = there.nonzero(as_tuple=True)
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        longest = max(box[2] - box[0], box[3] - box[1])
        if number and longest >= SMALLEST * max(image.shape[1:]):
            score = image[2][there].double().mean().item() / 255
            rows.append((score, box, int(image[1][there][0]) - 1))
    rows = sorted(rows, key=lambda row: -row[0])[:100]
    return ImageDetections(
        torch.tensor([box for _, box, _ in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for score, _, _ in rows], dtype=torch.float32),
        torch.tensor([label for _, _, label in rows], dtype=torch.int64),
    )


def as_set(detections: ImageDetections) -> list[tuple[int, int, int, int, int]]:
    """Return sorted detections in the form of `Scene.painted`; boxes are exact, so they are whole numbers."""
    rows = torch.cat([detections.boxes_xyxy, detections.labels[:, None].float()], dim=1)
    assert torch.equal(rows, rows.round())
    return sorted(tuple(row) for row in rows.int().tolist())
