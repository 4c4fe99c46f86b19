"""Keyword arguments of `check_data`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from typing import Literal, TypedDict

from dino_detector.api.keywords import PathLike, Size


class CheckDataKeywords(TypedDict, total=False):
    """Settings of `check_data`."""

    images: PathLike | None
    """folder of the images of one annotation file, if they are not beside it"""
    val_annotations: PathLike | None
    """annotations of a validation split, to compare with the first file as the training split"""
    val_images: PathLike | None
    """folder of the images of val_annotations, if they are not beside it"""
    skip_images: bool
    """do not open images: faster, but finds copies by file name and boxes only, and no damaged files"""
    image_size: Size
    """input size of the training in pixels, a number or HEIGHTxWIDTH, in multiples of the patch (14)"""
    resize_mode: Literal["stretch", "letterbox"]
    """how the training resizes images"""
    num_queries: int
    """object queries of the training: the largest number of objects that it finds in an image"""
    max_megapixels: float
    """largest picture to open"""
    output: PathLike | None
    """JSON file to write, with every finding and all its ids"""
