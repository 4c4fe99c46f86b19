"""Settings of the commands that are no run.

They stand here and not beside their commands because reading their types for ``--help`` imports whatever a module
imports for its types.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

from dino_detector.config.data import DataConfig
from dino_detector.config.evaluation import MAX_DETECTIONS


@dataclass(frozen=True)
class PredictSettings:
    """What to detect in, with what, and where the results go."""

    image_or_folder: Path
    """a picture, or a folder whose pictures are read in the order of their names"""
    _: KW_ONLY
    recursive: bool = False
    """look for pictures in subfolders too; results go to subfolders of the same names"""
    checkpoint: list[Path]
    """any checkpoint that training wrote; several over the same base model and frozen layers run these once for all,
    and each has its own folder in --output_dir"""
    output_dir: Path = Path("outputs/predictions")
    """folder for the pictures with boxes and predictions.json; the results of an earlier call are moved aside"""
    threshold: float = 0.5
    """lowest score of a box that is drawn and counted, 0 to 1; predictions.json has all of these, and of each picture
    at least the best 100"""
    batch_size: int = 8
    """pictures, or tiles of them, that run at once"""
    max_megapixels: float = DataConfig.max_megapixels
    """largest picture that is opened; Pillow's own limit, which guards against files that fill the memory"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """number format; auto is bf16 where the device has instructions for it, and 32 elsewhere"""
    dino_model: str | None = None
    """name or folder of the base model, where it is not the one the checkpoint names"""


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and where to."""

    _: KW_ONLY
    checkpoint: Path
    """any checkpoint that training wrote"""
    output: Path = Path("outputs/detector.onnx")
    """file to write: .onnx for ONNX Runtime, .xml for OpenVINO"""
    batch_size: int = 1
    """pictures that run at once, always as many"""
    precision: Literal["32", "int8"] = "32"
    """int8 makes an .onnx file smaller and faster, and a little less accurate"""
    dino_model: str | None = None
    """name or folder of the base model, where it is not the one the checkpoint names"""


@dataclass(frozen=True)
class DemoSettings:
    """Where the results go."""

    output_dir: Path = Path("outputs/demo")
    """folder for the data set, the checkpoints, the metrics and the pictures"""


@dataclass(frozen=True)
class AnalyzeSettings:
    """What to analyze, and where the results go."""

    metrics_file: list[Path] = field(default_factory=list)
    """metrics that training or evaluation wrote, such as outputs/val_metrics_epoch_10.json: a table, charts and
    report.html; of two files the first is the baseline that the second is compared with"""
    predictions_file: Path | None = None
    """detections in COCO's results format, with --test_images: annotated pictures and charts; with --metrics_file:
    the detections of those metrics, where they are no longer beside them"""
    test_images: Path | None = None
    """folder of the images of --predictions_file"""
    test_annotations: Path | None = None
    """COCO JSON of these images: the names of files and classes, and where it has annotations also metrics and
    report.html; testdev_image_info.json beside the detections and COCO's image_info_test-dev2017.json are found without
    it, and images that are named by their id"""
    num_visualizations: int = 10
    """pictures to draw, evenly spaced over the sorted ids of the images that have something to draw"""
    confidence_threshold: float = 0.5
    """lowest score of a detection that is drawn and counted, 0 to 1"""
    run_eval: bool = False
    """evaluate --model_path on --val_images and --val_annotations, and show everything; a --metrics_file beside it is
    the baseline to compare with"""
    model_path: Path | None = None
    """checkpoint to evaluate"""
    val_images: Path | None = None
    """folder of the images to evaluate on, or that --metrics_file was made on, where it has moved"""
    val_annotations: Path | None = None
    """COCO detection JSON of these images"""
    gallery_images: int = 100
    """worst images that report.html shows at most"""
    device: str = "auto"
    """evaluate on auto, cpu, cuda, cuda:1 or mps"""
    batch_size: int = 8
    """images that are evaluated at once"""
    num_workers: int = DataConfig.num_workers
    """processes that load the images of --run_eval; 0 loads in the main process"""
    max_megapixels: float = DataConfig.max_megapixels
    """largest picture that is opened; Pillow's own limit, which guards against files that fill the memory"""
    max_detections: int = MAX_DETECTIONS
    """detections of an image and class that the metrics of --predictions_file or --run_eval count, at least COCO's 100;
    a metrics file has its own"""
    dino_model: str | None = None
    """name or folder of the base model, where it is not the one the checkpoint names"""
    output_dir: Path = Path("outputs/analysis")
    """folder for everything that is written; what an earlier call left there by the same names is moved aside"""


@dataclass(frozen=True)
class DownloadSettings:
    """The parts of COCO 2017 to download, one or more."""

    download_train: bool = False
    """118,287 training images (19.3 GB, twice that while they are unpacked) and their annotations"""
    download_val: bool = False
    """5,000 validation images (816 MB) and their annotations (253 MB, together with those of train)"""
    download_test: bool = False
    """40,670 test images (6.6 GB) and the lists of their names; COCO keeps their annotations to itself"""
