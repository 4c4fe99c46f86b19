"""Keyword arguments of `label`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from typing import Literal, Required, TypedDict

from dino_detector.api.keywords import PathLike


class LabelKeywords(TypedDict, total=False):
    """Settings of `label`."""

    checkpoint: Required[PathLike]
    """checkpoint of the detector"""
    to: Required[Literal["coco", "yolo", "voc", "labelme", "label-studio", "cvat"]]
    """labelling tool that imports the boxes"""
    output_dir: PathLike
    """new folder for boxes and pictures; earlier pre-labels there are moved aside"""
    labelled: PathLike | None
    """data set whose validation images give the best threshold of each class; None takes the validation files
    beside the checkpoint, or 0.5 if there are none"""
    threshold: float | None
    """least score of a box of any class, in place of each class's best"""
    pictures: Literal["copy", "link", "none"]
    """copy the pictures; link them, which takes no space but makes a change of one file a change of both; or
    none"""
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
