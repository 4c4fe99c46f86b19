"""Settings of the check of a data set."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from dino_detector.config.data import DataConfig
from dino_detector.config.image_size import ImageSize
from dino_detector.config.model import DecoderConfig


@dataclass(frozen=True)
class DataCheckSettings:
    """The data to check, and the settings of the training that it is for."""

    dir_or_json: Path
    """a folder with COCO annotations and images, or one COCO detection JSON"""
    _: KW_ONLY
    images: Path | None = None
    """folder of the images of the JSON, where they are not found beside it"""
    val_annotations: Path | None = None
    """COCO detection JSON to compare the first with, which then counts as train"""
    val_images: Path | None = None
    """folder of the images of --val_annotations, where they are not found beside it"""
    skip_images: bool = False
    """do not open the images: faster, but copies are told by name and boxes alone, and damage not at all"""
    image_size: ImageSize = DataConfig.image_size
    """input size of the training in pixels, a number or HEIGHTxWIDTH, each a multiple of the patch (14)"""
    resize_mode: Literal["stretch", "letterbox"] = DataConfig.resize_mode
    """how the training brings images to that size"""
    num_queries: int = DecoderConfig.num_queries
    """object queries of the training: the most boxes that can be found in an image"""
    max_megapixels: float = DataConfig.max_megapixels
    """largest picture that is opened"""
    output: Path | None = None
    """JSON file for every finding with all its ids"""
