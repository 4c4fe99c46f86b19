"""Training images as the network sees them: changed at random, by nothing but the seed, the epoch and the image."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from dino_detector.config import AugmentationConfig
from dino_detector.data.augmentation.color_jitter import ColorJitter
from dino_detector.data.augmentation.copy_paste import paste_objects
from dino_detector.data.augmentation.mosaic import mosaic
from dino_detector.data.augmentation.scene import Scene, blank, draw_piece
from dino_detector.data.coco.images import CocoImages, first_readable
from dino_detector.data.dataset import Sample, SampleKey
from dino_detector.data.transforms import ResizeMode
from dino_detector.data.windows import map_window, random_window, whole_scale, whole_window


class Augmentation:
    """Shows images changed at random; what is drawn depends on the seed and the sample's key alone.

    Args:
        settings: what is changed, and how often.
        resize_mode: stretch or letterbox.
        seed: of what is drawn.
        plain_from: first epoch in which images are shown whole.
    """

    def __init__(self, settings: AugmentationConfig, *, resize_mode: ResizeMode, seed: int, plain_from: int) -> None:
        self.settings = settings
        self.resize_mode: ResizeMode = resize_mode
        self.seed = seed
        self.plain_from = plain_from

    def __call__(self, images: CocoImages, key: SampleKey) -> Sample:
        """The sample of a key, with boxes of a pixel at least; raises `InputError` where its image can't be read."""
        image_id = images.records[key.index].image_id
        rng = self._generator(images, key)
        skipped: list[str] = []
        scene = self._scene(rng, images, key, skipped)
        pixels = scene.pixels
        if rng.random() < self.settings.photometric_probability:
            pixels = ColorJitter.draw(rng).apply(pixels)
        return Sample(
            image=pixels,
            boxes_xyxy=torch.from_numpy(scene.objects.boxes_xyxy),
            labels=torch.from_numpy(scene.objects.labels),
            image_id=image_id,
            original_size=images.size(key.index),
            skipped=tuple(skipped),
        )

    def view_id(self, images: CocoImages, key: SampleKey) -> str:
        """A text that keys of an image have in common only where they show the same of it."""
        if key.epoch < self.plain_from or self.settings.photometric_probability:
            return f"epoch {key.epoch} repeat {key.repeat} plain {key.epoch >= self.plain_from}"
        return f"whole, mirrored {self._is_mirrored(self._generator(images, key))}"

    def _generator(self, images: CocoImages, key: SampleKey) -> np.random.Generator:
        """Of all that is drawn for a key."""
        image_id = images.records[key.index].image_id
        return np.random.default_rng(augmentation_seed(self.seed, key.epoch, image_id, key.repeat))

    def _is_mirrored(self, rng: np.random.Generator) -> bool:
        """In plain epochs the first that is drawn, and but for colours all."""
        return rng.random() < self.settings.flip_probability

    def _scene(self, rng: np.random.Generator, images: CocoImages, key: SampleKey, skipped: list[str]) -> Scene:
        settings, image_size, mode = self.settings, key.image_size, self.resize_mode
        flip_probability = settings.flip_probability
        plain = key.epoch >= self.plain_from
        if not plain and rng.random() < settings.mosaic_probability:
            shape = {"image_size": image_size, "resize_mode": mode, "flip_probability": flip_probability}
            return mosaic(rng, images, key.index, **shape, skipped=skipped)

        size = images.size(key.index)
        window = whole_window(size)
        if not plain:
            window = random_window(rng, size, images.objects(key.index).boxes_xyxy, settings)
        mirrored = self._is_mirrored(rng)
        piece = map_window(window, size, place=whole_window(image_size), resize_mode=mode, mirrored=mirrored)
        canvas = blank(image_size)
        scene = Scene(canvas, draw_piece(images, key.index, window=window, piece=piece, canvas=canvas))
        if plain or rng.random() >= settings.copy_paste_probability:
            return scene

        zoom = piece.scale / whole_scale(size, image_size, mode)

        def paste(partner: int) -> Scene:
            scale = zoom * whole_scale(images.size(partner), image_size, mode)
            shape = {"scale": scale, "within": piece.place, "flip_probability": flip_probability}
            return paste_objects(scene, rng, images, partner, **shape)

        return first_readable(images, images.another(rng, key.index, with_objects=True), paste, skipped)


def augmentation_seed(seed: int, epoch: int, image_id: int, repeat: int) -> int:
    """A 64-bit seed that differs with each of the four numbers."""
    text = f"{seed}/{epoch}/{image_id}/{repeat}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
