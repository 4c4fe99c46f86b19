"""Settings of the data: images and annotations, COCO, subsets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dino_detector.config.image_size import ImageSize


@dataclass(frozen=True)
class DataConfig:
    """Images and annotations, and how an image becomes the network's input."""

    train_images: Path | None = None
    """folder of the training images"""
    train_annotations: Path | None = None
    """COCO detection JSON of the training images"""
    val_images: Path | None = None
    """folder of the validation images"""
    val_annotations: Path | None = None
    """COCO detection JSON of the validation images"""
    testdev_images: Path | None = None
    """folder of images without annotations, whose detections go to testdev_predictions_final.json"""
    download_train_data: bool = False
    """fetch COCO 2017's training images into data_dir first, and train on them; of a subset only what it needs"""
    download_val_data: bool = False
    """fetch COCO 2017's validation images first, and evaluate on them"""
    download_test_data: bool = False
    """fetch COCO 2017's test images first, and detect in those of test-dev"""
    num_classes: int | None = None
    """number of classes; it is read from the annotations, and one that contradicts them is an error"""
    image_size: ImageSize = ImageSize(518, 518)
    """input size in pixels, a number or HEIGHTxWIDTH, each a multiple of the backbone's patch (14)"""
    resize_mode: Literal["stretch", "letterbox"] = "stretch"
    """stretch the image to the input size, or keep its aspect ratio and pad"""
    white_level: float | None = None
    """value that is white in greyscale pictures of more than 8 bits, such as 4095 for 12 bits; null measures it in the
    training images, and the checkpoint keeps it"""
    max_megapixels: float = 179.0
    """largest picture that is opened; Pillow's own limit, which guards against files that fill the memory"""
    num_workers: int = 2
    """processes that load images; 0 loads in the main process"""


@dataclass(frozen=True)
class DownloadConfig:
    """COCO 2017: where it is kept, and where it comes from."""

    data_dir: Path = Path("coco_data")
    """folder that downloads go to, and that is searched for COCO where no images are given"""
    coco_url: str = "http://images.cocodataset.org"
    """address that files are fetched from; a mirror holds the same files under the same paths, such as
    zips/val2017.zip"""
    coco_checksums: Path | None = None
    """for a mirror whose archives are not COCO's own: their checksums, as sha256sum prints them"""


@dataclass(frozen=True)
class SubsetConfig:
    """Parts of the data: overfitting a few images, COCO mini, a few test images."""

    debug: bool = False
    """overfit a few training images: 100 epochs, no augmentation, evaluation on these same images every 2 epochs, and
    a verdict at the end. Of the checkpoints of evaluated epochs the newest is kept"""
    debug_samples: int = 32
    """images of a debug run"""
    debug_lr: float = 5e-4
    """learning rate of a debug run"""
    use_coco_mini: bool = False
    """train in the usual way on a subset that depends on its size, its seed and the image ids alone; its images are
    written to coco_mini_SIZE_seedSEED_indices.json"""
    coco_mini_size: Literal["1k", "5k", "10k"] = "1k"
    """training images of the subset; 1k lies within 5k, and 5k within 10k. It is evaluated on 1,000 validation images,
    5,000, or all, or on all where there are fewer"""
    coco_mini_seed: int = 42
    """seed of the selection"""
    coco_mini_indices_file: Path | None = None
    """use the subset that this file lists; refused for annotations other than those it was made from"""
    test_mini: bool = False
    """detect in a few test images only"""
    test_mini_size: int = 30
    """number of these images"""
