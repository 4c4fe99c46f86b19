"""Keyword arguments of `doubts`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from typing import Required, TypedDict

from dino_detector.api.keywords import PathLike


class DoubtsKeywords(TypedDict, total=False):
    """Settings of `doubts`."""

    checkpoint: Required[PathLike]
    """checkpoint of a detector for such images; the detectors that judge the labels have its settings, and start
    from new weights, because its own weights have seen the labels"""
    folds: int
    """number of detectors; each trains on the images of the other folds and judges the labels of its own fold"""
    epochs: int | None
    """passes of each training over its images; None means the number of the checkpoint's training"""
    cache_trunk: PathLike | None
    """folder of a trunk cache to use and to keep; None makes a temporary one in output_dir"""
    shown: int
    """largest number of doubts on the page; doubts.json has all of them"""
    output_dir: PathLike
    """folder for doubts.json and doubts.html; files of an earlier call are moved aside"""
    device: str
    """auto, cpu, cuda, cuda:1 or mps"""
    num_workers: int
    """processes that load images; 0 loads in the main process"""
    max_megapixels: float
    """largest picture to open"""
    seed: int
    """seed of the folds, the trainings and the calibration"""
