"""Settings of the data: images and annotations, COCO, subsets, augmentation, the trunk cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dino_detector.config.setting import ImageSize, Range, setting

LARGEST_SCALE = 100
"""largest factor of ``scale_range``; an image then shows a ten thousandth of its area"""
SCALES = Range(
    f"two factors above 0 and at most {LARGEST_SCALE}, the smaller first",
    lambda factors: len(factors) == 2 and 0 < factors[0] <= factors[1] <= LARGEST_SCALE,
)


@dataclass(frozen=True)
class DataConfig:
    """Images and annotations, and the network's input."""

    data: Path | None = setting(None, positional=True)
    """folder or file of a data set from any labelling tool, in place of the paths of images and annotations"""
    train_images: Path | None = None
    """folder of the training images"""
    train_annotations: Path | None = None
    """annotations of the training images, in the format of any labelling tool; a split of YOLO is data.yaml:train"""
    val_images: Path | None = None
    """folder of the validation images"""
    val_annotations: Path | None = None
    """annotations of the validation images"""
    val_fraction: float | None = setting(None, above=0, below=1)
    """fraction of the training images to validate on, such as 0.2, where the data has no validation images. The content
    of an image decides its side, so it keeps it when images are added. Near-copies, and frames of one video, stay on
    one side"""
    by_name: bool = False
    """compare the classes of different files by name, and number them like the first file or the detector; without it,
    ids must agree too"""
    skip_unreadable: bool = False
    """leave validation images that can't be read out of the evaluation, and name them; without it, they are an error.
    Training always skips images that can't be read"""
    keep_empty_classes: bool = False
    """train the classes without a box too; without it, the detector has no class that neither the training nor the
    validation file has a box of"""
    testdev_images: Path | None = None
    """folder of test images without annotations; their detections go to testdev_predictions_final.json"""
    download_train_data: bool = False
    """download COCO 2017's training images to data_dir and train on them; a subset downloads only its own images"""
    download_val_data: bool = False
    """download COCO 2017's validation images to data_dir and evaluate on them"""
    download_test_data: bool = False
    """download COCO 2017's test images to data_dir and detect in the images of test-dev"""
    num_classes: int | None = setting(None, at_least=1)
    """number of classes; the annotations give it, and a number that contradicts them is an error"""
    image_size: ImageSize = ImageSize(518, 518)
    """input size in pixels, a number or HEIGHTxWIDTH, in multiples of the backbone's patch (14)"""
    resize_mode: Literal["stretch", "letterbox"] = "stretch"
    """stretch the image to the input size, or keep its aspect ratio and pad"""
    white_level: float | None = setting(None, above=0)
    """value of white in greyscale pictures of more than 8 bits, such as 4095 for 12 bits; null measures it in the
    training images, and the checkpoint stores it"""
    max_megapixels: float = setting(179.0, above=0)
    """largest picture to open; the default is Pillow's limit, which guards against files that fill the memory"""
    num_workers: int = setting(2, at_least=0)
    """processes that load images; 0 loads in the main process"""


@dataclass(frozen=True)
class DownloadConfig:
    """Folder and source of COCO 2017."""

    data_dir: Path = Path("coco_data")
    """folder of COCO 2017: downloads go there, and runs that name no images use it"""
    coco_url: str = "http://images.cocodataset.org"
    """address to download from; a mirror has the same files under the same paths, such as zips/val2017.zip"""
    coco_checksums: Path | None = None
    """checksums in sha256sum's format, for a mirror whose archives differ from COCO's own"""


@dataclass(frozen=True)
class SubsetConfig:
    """Parts of the data: overfitting a few images, COCO mini, a few test images."""

    debug: bool = False
    """overfit a few training images: 100 epochs, no augmentation, an evaluation on the same images every 2 epochs, and
    a verdict at the end. Only the newest checkpoint of an evaluated epoch stays on disk"""
    debug_samples: int = setting(32, at_least=1, effective_with="debug")
    """images of a debug run"""
    debug_lr: float = setting(5e-4, above=0, effective_with="debug")
    """learning rate of a debug run"""
    use_coco_mini: bool = False
    """train on a fixed subset of COCO 2017, chosen by its size, its seed and the image ids;
    coco_mini_SIZE_seedSEED_indices.json lists its images"""
    coco_mini_size: Literal["1k", "5k", "10k"] = setting("1k", effective_with="use_coco_mini")
    """training images of the subset; 1k is part of 5k, and 5k of 10k. Evaluation uses 1,000 validation images for 1k,
    5,000 for 5k and all for 10k, or all where there are fewer"""
    coco_mini_seed: int = setting(42, at_least=0, below=2**32, effective_with="use_coco_mini")
    """seed of the selection"""
    coco_mini_indices_file: Path | None = setting(None, effective_with="use_coco_mini")
    """file that lists the subset to use, from an earlier run on the same annotations"""
    test_mini: bool = False
    """detect in a few test images only"""
    test_mini_size: int = setting(30, at_least=1, effective_with="test_mini")
    """number of test images with test_mini"""


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of the training images, and repeats of rare classes."""

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
    """repeat the images of rare classes: if a class is in a fraction f of the images, below this threshold, its images
    come sqrt(threshold / f) times in an epoch on average, which makes the epoch longer. 0 turns repeats off"""

    def no_augment_from(self, epochs: int) -> int:
        """Return the first epoch without augmentation, counted from 0; see ``no_augment_fraction``."""
        last = math.floor(self.no_augment_fraction * epochs + 0.5)
        return epochs - max(last, int(self.no_augment_fraction > 0 and epochs > 1))

    def input_sizes(self, image_size: ImageSize, patch_size: int) -> list[ImageSize]:
        """Return the sizes of training batches, smallest first: the aspect of ``image_size``, in whole patches."""
        change = self.multi_scale if self.augmentation else 0.0
        patches = max(image_size) // patch_size
        fewest, most = math.ceil(round(patches * (1 - change), 6)), math.floor(round(patches * (1 + change), 6))
        return [
            ImageSize(*(patch_size * max(1, round(side * count / max(image_size))) for side in image_size))
            for count in range(max(1, fewest), most + 1)
        ]


@dataclass(frozen=True)
class CacheConfig:
    """Outputs of the frozen layers, computed once per image and kept on disk."""

    cache_trunk: Path | None = None
    """folder of the cache; later runs with the same base model, frozen layers, image size and augmentation use it too.
    The run first reports how much disk space the cache takes. Cached images are not read again"""
    cache_views: int | None = setting(None, at_least=1, effective_with="cache_trunk")
    """augmented views to cache per training image: epochs show the views in turn, so that the first cache_views epochs
    fill the cache and later epochs read it; null means one view per four augmented epochs, at most 8"""

    def views_of(self, epochs: int) -> int:
        """Return the number of views for a number of augmented epochs."""
        return self.cache_views or min(8, math.ceil(epochs / 4))
