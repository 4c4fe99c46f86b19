"""Settings of augmentation and sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dino_detector.config.image_size import ImageSize
from dino_detector.config.setting import Range, setting

LARGEST_SCALE = 100
"""largest factor of ``scale_range``; an image then shows a ten thousandth of its area"""
SCALES = Range(
    f"two factors above 0 and at most {LARGEST_SCALE}, the smaller first",
    lambda factors: len(factors) == 2 and 0 < factors[0] <= factors[1] <= LARGEST_SCALE,
)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of the training images, and how often each image comes."""

    augmentation: bool = True
    """augment the training images by the settings of this group; with false, only repeat_threshold applies"""
    scale_range: list[float] = setting([0.8, 1.25], SCALES, effective_with="augmentation")
    """smallest and largest factor by which an image is scaled; 0.1,2 is large-scale jitter, 1,1 turns scaling off"""
    zoom_out_probability: float = setting(0.0, at_least=0, at_most=1, effective_with="augmentation")
    """probability of placing the image on a canvas of the mean colour, with sides up to twice as long"""
    crop_probability: float = setting(0.0, at_least=0, at_most=1, effective_with="augmentation")
    """probability of a random crop that contains an object"""
    flip_probability: float = setting(0.5, at_least=0, at_most=1, effective_with="augmentation")
    """probability of a horizontal flip"""
    photometric_probability: float = setting(0.0, at_least=0, at_most=1, effective_with="augmentation")
    """probability of changing brightness, contrast, saturation and hue"""
    mosaic_probability: float = setting(0.0, at_least=0, at_most=1, effective_with="augmentation")
    """probability of a mosaic: the image and three others, one in each quadrant, at about half their size. A mosaic
    gets no scaling, zoom-out, crop or copy-paste"""
    copy_paste_probability: float = setting(0.5, at_least=0, at_most=1, effective_with="augmentation")
    """probability of pasting objects of another image into the image, each as the rectangle of its box"""
    multi_scale: float = setting(0.0, at_least=0, below=1, effective_with="augmentation")
    """largest change of the input size, as a fraction of image_size: 0.25 draws a size between 0.75 and 1.25 times
    image_size, in whole patches, for each batch. Evaluation always uses image_size"""
    no_augment_fraction: float = setting(0.25, at_least=0, at_most=1, effective_with="augmentation")
    """fraction of the epochs, at the end of training, that show whole images at image_size, with flips and colour
    changes only. A value above 0 gives at least one such epoch, unless there is only one epoch"""
    repeat_threshold: float = setting(0.0, at_least=0, at_most=1)
    """repeat images of rare classes: if a fraction f of the images, below this threshold, contains a class, its images
    come sqrt(threshold / f) times in an epoch on average, and the epoch is longer. 0 turns repeats off"""

    def no_augment_from(self, epochs: int) -> int:
        """Return the first epoch without augmentation, counted from 0; see ``no_augment_fraction``."""
        plain = math.floor(self.no_augment_fraction * epochs + 0.5)
        return epochs - max(plain, int(self.no_augment_fraction > 0 and epochs > 1))

    def input_sizes(self, image_size: ImageSize, patch_size: int) -> list[ImageSize]:
        """Return the sizes of training batches, smallest first: the aspect of ``image_size``, in whole patches."""
        change = self.multi_scale if self.augmentation else 0.0
        patches = max(image_size) // patch_size
        fewest, most = math.ceil(round(patches * (1 - change), 6)), math.floor(round(patches * (1 + change), 6))
        return [
            ImageSize(*(patch_size * max(1, round(side * count / max(image_size))) for side in image_size))
            for count in range(max(1, fewest), most + 1)
        ]
