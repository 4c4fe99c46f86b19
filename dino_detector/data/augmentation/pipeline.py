"""The augmentation pipeline: mosaic, scale jitter, zoom-out, crop, flip, copy-paste and colour jitter."""

from __future__ import annotations

import hashlib
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch

from dino_detector.config import AugmentationConfig
from dino_detector.data.augmentation.color_jitter import ColorJitter
from dino_detector.data.augmentation.copy_paste import paste_objects
from dino_detector.data.augmentation.scene import Scene, blank, draw_piece, mosaic
from dino_detector.data.coco.images import CocoImages, first_readable
from dino_detector.data.dataset import Sample, SampleKey
from dino_detector.data.windows import ResizeMode, map_window, random_window, whole_scale, whole_window


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
        """Return a text that is equal for keys of an image only if their samples are equal."""
        plain = key.epoch >= self.no_augment_from
        if not plain or self.settings.photometric_probability:
            return f"epoch {key.epoch} repeat {key.repeat} plain {plain}"
        return f"whole, mirrored {self._is_mirrored(self._generator(images, key))}"

    def _generator(self, images: CocoImages, key: SampleKey) -> np.random.Generator:
        """Return the source of all random draws of a key."""
        image_id = images.records[key.index].image_id
        return np.random.default_rng(augmentation_seed(self.seed, key.epoch, image_id, key.repeat))

    def _is_mirrored(self, rng: np.random.Generator) -> bool:
        """Draw whether to mirror; in plain epochs this is the first draw, and the only one besides colours."""
        return rng.random() < self.settings.flip_probability

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
        place, mirrored = whole_window(key.image_size), self._is_mirrored(rng)
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
