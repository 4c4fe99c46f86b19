"""Keyword arguments of `export`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from typing import Literal, Required, TypedDict

from dino_detector.api.keywords import PathLike


class ExportKeywords(TypedDict, total=False):
    """Settings of `export`."""

    checkpoint: Required[PathLike]
    """checkpoint of the detector"""
    output: PathLike
    """file to write: .onnx for ONNX Runtime, .xml for OpenVINO"""
    batch_size: int
    """number of pictures in every batch of the exported detector"""
    precision: Literal["32", "int8"]
    """int8 makes an .onnx file smaller and faster, and a little less accurate"""
    dino_model: str | None
    """name or folder of the base model; None means the model that the checkpoint names"""
