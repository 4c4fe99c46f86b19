"""Settings of the commands suggest, doubts and label."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from dino_detector.config.data import DataConfig
from dino_detector.config.setting import setting


@dataclass(frozen=True)
class SuggestSettings:
    """Pictures, detector and results."""

    folder: Path
    """folder of pictures to choose from"""
    _: KW_ONLY
    checkpoint: Path
    """checkpoint of a detector that was trained on the labels so far"""
    count: int = setting(50, at_least=1)
    """number of pictures to choose"""
    labelled: Path | None = None
    """data set with the labels so far; its pictures are not chosen again, and the chosen pictures differ from them"""
    recursive: bool = False
    """look into subfolders too"""
    output_dir: Path = Path("outputs/suggestions")
    """folder for suggested.txt and suggestions.html; files of an earlier call are moved aside"""


@dataclass(frozen=True)
class DoubtSettings:
    """Data, detectors and results."""

    data: Path
    """folder or file of a data set: COCO, YOLO, Pascal VOC, labelme, CVAT, CreateML or Open Images; all splits with
    labels take part"""
    _: KW_ONLY
    checkpoint: Path
    """checkpoint of a detector for such images; the detectors that judge the labels have its settings, and start from
    new weights, because its own weights have seen the labels"""
    folds: int = setting(3, at_least=2)
    """number of detectors; each trains on the images of the other folds and judges the labels of its own fold"""
    epochs: int | None = setting(None, at_least=1)
    """passes of each training over its images; null means the number of the checkpoint's training"""
    cache_trunk: Path | None = None
    """folder of a trunk cache to use and to keep; null makes a temporary one in --output_dir"""
    shown: int = setting(200, at_least=1)
    """largest number of doubts on the page; doubts.json has all of them"""
    output_dir: Path = Path("outputs/doubts")
    """folder for doubts.json and doubts.html; files of an earlier call are moved aside"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""
    num_workers: int = setting(DataConfig.num_workers, at_least=0)
    """processes that load images; 0 loads in the main process"""
    max_megapixels: float = setting(DataConfig.max_megapixels, above=0)
    """largest picture to open"""
    seed: int = setting(42, at_least=0, below=2**32)
    """seed of the folds, the trainings and the calibration"""


@dataclass(frozen=True)
class LabelSettings:
    """Pictures, detector and results."""

    data_or_folder: Path
    """folder of pictures, or a data set of any labelling tool, whose pictures with labels are left out"""
    _: KW_ONLY
    checkpoint: Path
    """checkpoint of the detector"""
    to: Literal["coco", "yolo", "voc", "labelme", "label-studio", "cvat"]
    """labelling tool that imports the boxes"""
    output_dir: Path = Path("outputs/prelabels")
    """new folder for boxes and pictures; earlier pre-labels there are moved aside"""
    labelled: Path | None = None
    """data set whose validation images give the best threshold of each class; null takes the validation files beside
    the checkpoint, or 0.5 if there are none"""
    threshold: float | None = setting(None, at_least=0, at_most=1)
    """least score of a box of any class, in place of each class's best"""
    pictures: Literal["copy", "link", "none"] = "copy"
    """copy the pictures; link them, which takes no space but makes a change of one file a change of both; or none"""
