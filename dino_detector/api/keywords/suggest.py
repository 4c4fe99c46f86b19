"""Keyword arguments of `suggest`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from typing import Literal, Required, TypedDict

from dino_detector.api.keywords import PathLike


class SuggestKeywords(TypedDict, total=False):
    """Settings of `suggest`."""

    checkpoint: Required[PathLike]
    """checkpoint of a detector that was trained on the labels so far"""
    count: int
    """number of pictures to choose"""
    labelled: PathLike | None
    """data set with the labels so far; its pictures are not chosen again, and the chosen pictures differ from
    them"""
    recursive: bool
    """look into subfolders too"""
    output_dir: PathLike
    """folder for suggested.txt and suggestions.html; files of an earlier call are moved aside"""
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
