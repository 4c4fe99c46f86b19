"""Settings of augmentation and sampling: what training images are turned into, and how often each comes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dino_detector.config.image_size import ImageSize


@dataclass(frozen=True)
class AugmentationConfig:
    """What training images are turned into, and how often each comes."""

    augmentation: bool = True
    """change training images at random, as all settings of this group but repeat_threshold say; false shows them as
    they are evaluated"""
    scale_range: list[float] = field(default_factory=lambda: [0.8, 1.25])
    """factors between which the objects of an image shrink or grow; 0.1,2 is large-scale jitter, 1,1 none"""
    zoom_out_probability: float = 0.0
    """chance to put the image on a canvas of the mean colour, with sides up to twice as long"""
    crop_probability: float = 0.0
    """chance to crop the image, with an object in the crop"""
    flip_probability: float = 0.5
    """chance to mirror the image"""
    photometric_probability: float = 0.0
    """chance to distort brightness, contrast, saturation and hue"""
    mosaic_probability: float = 0.0
    """chance to show the image in one quadrant and three others beside it, at about half their size; a mosaic is not
    scaled, zoomed out or cropped otherwise, and nothing is pasted into it"""
    copy_paste_probability: float = 0.5
    """chance to paste some objects of another image into the image, each as the rectangle of its box"""
    multi_scale: float = 0.0
    """largest change of the input size, as a fraction of image_size: 0.25 draws a size between 0.75 and 1.25 times it,
    in whole patches, for each batch. It is evaluated at image_size"""
    no_augment_fraction: float = 0.25
    """share of the epochs, the last ones, in which images are shown whole and at image_size: only mirrored and with
    distorted colours; at least one of several"""
    repeat_threshold: float = 0.0
    """images of a class that less than this share of the images has come more than once in an epoch: sqrt(threshold /
    share) times, on average. An epoch becomes longer by that. 0 turns it off"""

    def plain_from(self, epochs: int) -> int:
        """The first of the plain epochs, counted from 0: of the nearest number, at least one of several ``epochs``."""
        plain = math.floor(self.no_augment_fraction * epochs + 0.5)
        return epochs - max(plain, int(self.no_augment_fraction > 0 and epochs > 1))

    def input_sizes(self, image_size: ImageSize, patch_size: int) -> list[ImageSize]:
        """Sizes that training batches may have, smallest first: of the aspect of ``image_size``, in whole patches."""
        change = self.multi_scale if self.augmentation else 0.0
        patches = max(image_size) // patch_size
        fewest, most = math.ceil(round(patches * (1 - change), 6)), math.floor(round(patches * (1 + change), 6))
        return [
            ImageSize(*(patch_size * max(1, round(side * count / max(image_size))) for side in image_size))
            for count in range(max(1, fewest), most + 1)
        ]
