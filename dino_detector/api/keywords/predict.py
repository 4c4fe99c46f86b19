"""Keyword arguments of `predict`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Required, TypedDict

from dino_detector.api.keywords import PathLike, Size


class PredictKeywords(TypedDict, total=False):
    """Settings of `predict`."""

    recursive: bool
    """read pictures in subfolders too; results go to subfolders with the same names"""
    checkpoint: Required[PathLike | Sequence[PathLike]]
    """checkpoint of the detector; several checkpoints over the same base model and frozen layers share one pass
    through these layers, and each has its own folder in output_dir"""
    output_dir: PathLike
    """folder for the pictures with boxes and predictions.json; results of an earlier call are moved aside"""
    threshold: float
    """lowest score of a box to draw and count; predictions.json has all of these boxes, and at least the 100 best
    boxes of each picture"""
    batch_size: int
    """pictures, or tiles of pictures, that run at once"""
    max_megapixels: float
    """largest picture to open; the default is Pillow's limit, which guards against files that fill the memory"""
    device: str
    """auto, cpu, cuda, cuda:1 or mps"""
    precision: Literal["auto", "32", "bf16", "16"]
    """number format; auto is bf16 where the device has instructions for it, and 32 elsewhere"""
    dino_model: str | None
    """name or folder of the base model; None means the model that the checkpoint names"""
    tile_size: Size | None
    """detect in tiles of this size besides the whole image, in pixels of the image, a number or HEIGHTxWIDTH; each
    tile is resized to the input size of the network. An image that fits in one tile is not divided"""
    tile_overlap: float
    """fraction of a tile's side that overlaps the next tile; a small object should fit in the overlap"""
