"""The augmentation pipeline: mosaic, scale jitter, zoom-out, crop, flip, copy-paste and colour jitter."""

from __future__ import annotations

import hashlib
import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dino_detector.config import AugmentationConfig
from dino_detector.data.augmentation.copy_paste import paste_objects
from dino_detector.data.augmentation.scene import Scene, blank, draw_piece, mosaic
from dino_detector.data.coco.images import CocoImages, first_readable
from dino_detector.data.dataset import Sample, SampleKey
from dino_detector.data.windows import ResizeMode, map_window, random_window, whole_scale, whole_window

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""luma and the two colour differences of NTSC; https://en.wikipedia.org/wiki/YIQ"""


@dataclass(frozen=True)
class Augmentation:
    """Makes augmented samples; the random draws depend only on the seed and the sample's key.

    From epoch ``no_augment_from`` on, images are shown whole, only flipped and colour-jittered.
    """

    settings: AugmentationConfig
    _: KW_ONLY
    resize_mode: ResizeMode
    seed: int
    no_augment_from: int

    def __call__(self, images: CocoImages, key: SampleKey) -> Sample:
        """Return the sample of a key, with boxes of at least a pixel; raise `InputError` if its image can't be read."""
        rng = self._generator(images, key)
        skipped: list[str] = []
        pixels, objects = self._scene(rng, images, key, skipped)
        if rng.random() < self.settings.photometric_probability:
            pixels = ColorJitter.draw(rng).apply(pixels)
        return Sample(
            image=pixels,
            boxes_xyxy=torch.from_numpy(objects.boxes_xyxy),
            labels=torch.from_numpy(objects.labels),
            image_id=images.records[key.index].image_id,
            original_size=images.size(key.index),
            skipped=tuple(skipped),
        )

    def view_id(self, images: CocoImages, key: SampleKey) -> str:
        """Return a text that two keys of an image share only if their samples are equal."""
        plain = key.epoch >= self.no_augment_from
        if not plain or self.settings.photometric_probability:
            return f"epoch {key.epoch} repeat {key.repeat} plain {plain}"
        mirrored = self._generator(images, key).random() < self.settings.flip_probability  # as in `_scene`
        return f"whole, mirrored {mirrored}"

    def _generator(self, images: CocoImages, key: SampleKey) -> np.random.Generator:
        """Return the source of all random draws of a key."""
        image_id = images.records[key.index].image_id
        return np.random.default_rng(augmentation_seed(self.seed, key.epoch, image_id, key.repeat))

    def _scene(self, rng: np.random.Generator, images: CocoImages, key: SampleKey, skipped: list[str]) -> Scene:
        settings, flip_probability = self.settings, self.settings.flip_probability
        plain = key.epoch >= self.no_augment_from
        shape = {"image_size": key.image_size, "resize_mode": self.resize_mode}
        if not plain and rng.random() < settings.mosaic_probability:
            return mosaic(rng, images, key.index, **shape, flip_probability=flip_probability, skipped=skipped)

        size = images.size(key.index)
        window = whole_window(size)
        if not plain:
            window = random_window(rng, size, images.objects(key.index).boxes_xyxy, settings)
        mirrored = rng.random() < flip_probability  # the first draw of a plain epoch
        place = whole_window(key.image_size)
        piece = map_window(window, size, place=place, resize_mode=self.resize_mode, mirrored=mirrored)
        canvas = blank(key.image_size)
        scene = Scene(canvas, draw_piece(images, key.index, window=window, piece=piece, canvas=canvas))
        if plain or rng.random() >= settings.copy_paste_probability:
            return scene

        zoom = piece.scale / whole_scale(size, **shape)

        def paste(partner: int) -> Scene:
            scale = zoom * whole_scale(images.size(partner), **shape)
            how = {"scale": scale, "within": piece.place, "flip_probability": flip_probability}
            return paste_objects(scene, rng, images, partner, **how)

        return first_readable(images, images.another(rng, key.index, with_objects=True), paste, skipped)


def augmentation_seed(seed: int, epoch: int, image_id: int, repeat: int) -> int:
    """Return a 64-bit seed that depends on all four numbers."""
    text = f"{seed}/{epoch}/{image_id}/{repeat}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class ColorJitter(NamedTuple):
    """Drawn parameters of torchvision's ``ColorJitter``: three factors, and a shift of the hue in turns, -0.5..0.5."""

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
