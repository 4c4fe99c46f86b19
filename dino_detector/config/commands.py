"""Settings of the commands other than train and evaluate."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from dino_detector.config.data import DataConfig
from dino_detector.config.model import DecoderConfig
from dino_detector.config.setting import ImageSize, setting
from dino_detector.config.training import MAX_DETECTIONS


@dataclass(frozen=True)
class InferenceSettings:
    """How the detector runs."""

    _: KW_ONLY
    batch_size: int = setting(8, at_least=1)
    """pictures, or tiles of pictures, that run at once"""
    max_megapixels: float = setting(DataConfig.max_megapixels, above=0)
    """largest picture to open; the default is Pillow's limit, which guards against files that fill the memory"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """number format; auto is bf16 where the device has instructions for it, and 32 elsewhere"""
    dino_model: str | None = None
    """name or folder of the base model; null means the model that the checkpoint names"""


@dataclass(frozen=True)
class PredictSettings:
    """Pictures, detectors and results."""

    image_or_folder: Path
    """a picture, or a folder of pictures, which are read in the order of their names"""
    _: KW_ONLY
    recursive: bool = False
    """read pictures in subfolders too; results go to subfolders with the same names"""
    checkpoint: list[Path]
    """checkpoint of the detector; several checkpoints over the same base model and frozen layers share one pass through
    these layers, and each has its own folder in --output_dir"""
    output_dir: Path = Path("outputs/predictions")
    """folder for the pictures with boxes and predictions.json; results of an earlier call are moved aside"""
    threshold: float = setting(0.5, at_least=0, at_most=1)
    """lowest score of a box to draw and count; predictions.json has all of these boxes, and at least the 100 best boxes
    of each picture"""


@dataclass(frozen=True)
class ExportSettings:
    """The detector to export, and the file to write."""

    _: KW_ONLY
    checkpoint: Path
    """checkpoint of the detector"""
    output: Path = Path("outputs/detector.onnx")
    """file to write: .onnx for ONNX Runtime, .xml for OpenVINO"""
    batch_size: int = setting(1, at_least=1)
    """number of pictures in every batch of the exported detector"""
    precision: Literal["32", "int8"] = "32"
    """int8 makes an .onnx file smaller and faster, and a little less accurate"""
    dino_model: str | None = None
    """name or folder of the base model; null means the model that the checkpoint names"""


@dataclass(frozen=True)
class DemoSettings:
    """Results."""

    output_dir: Path = Path("outputs/demo")
    """folder for the data set, the checkpoints, the metrics and the pictures"""


@dataclass(frozen=True)
class AnalyzeSettings:
    """Metrics and detections to analyze, and results."""

    data: Path | None = setting(None, positional=True)
    """folder or file of a data set from any labelling tool, in place of the images and annotations below; the
    validation split is used, or the test split if there is none"""
    metrics_file: list[Path] = setting([])
    """metrics of training or evaluation, such as outputs/val_metrics_epoch_10.json; the first of two is the baseline"""
    predictions_file: Path | None = None
    """detections in COCO's results format. With --test_images: annotated pictures and charts. With --metrics_file: the
    detections of the metrics, if the two files are no longer in one folder"""
    test_images: Path | None = None
    """folder of the images of --predictions_file"""
    test_annotations: Path | None = None
    """annotations of --test_images in any format, or a COCO list with the names of files and classes; with
    annotations, metrics and report.html are written too. It is not needed for COCO's test-dev2017 if
    testdev_image_info.json is beside the detections, nor if images are named by their ids"""
    num_visualizations: int = setting(10, at_least=0)
    """pictures to draw, evenly spaced over the sorted ids of the images with something to draw"""
    confidence_threshold: float = setting(0.5, at_least=0, at_most=1)
    """lowest score of a detection to draw and count"""
    run_eval: bool = False
    """evaluate --model_path on DATA, or --val_images and --val_annotations; --metrics_file is then the baseline"""
    model_path: Path | None = None
    """checkpoint to evaluate"""
    val_images: Path | None = None
    """folder of the images to evaluate on, or the new folder of the images of --metrics_file"""
    val_annotations: Path | None = None
    """annotations of --val_images, in the format of any labelling tool"""
    val_fraction: float | None = setting(None, above=0, below=1, effective_with="run_eval")
    """fraction of DATA that the training took for validation; --run_eval evaluates the same images"""
    by_name: bool = setting(False, effective_with="run_eval")
    """let --run_eval compare classes by name, where ids of DATA and of the detector differ"""
    skip_unreadable: bool = setting(False, effective_with="run_eval")
    """let --run_eval leave out images that can't be read, and name them"""
    gallery_images: int = setting(100, at_least=0)
    """largest number of worst images in report.html"""
    device: str = "auto"
    """device of --run_eval: auto, cpu, cuda, cuda:1 or mps"""
    batch_size: int = setting(8, at_least=1)
    """images per batch of --run_eval"""
    num_workers: int = setting(DataConfig.num_workers, at_least=0)
    """processes that load the images of --run_eval; 0 loads in the main process"""
    max_megapixels: float = setting(DataConfig.max_megapixels, above=0)
    """largest picture to open; the default is Pillow's limit, which guards against files that fill the memory"""
    max_detections: int = setting(MAX_DETECTIONS, at_least=MAX_DETECTIONS)
    """detections per image and class that the metrics of --predictions_file or --run_eval count, at least COCO's 100;
    a metrics file has its own number"""
    dino_model: str | None = None
    """name or folder of the base model; null means the model that the checkpoint names"""
    output_dir: Path = Path("outputs/analysis")
    """folder for all files; files of an earlier call with the same names are moved aside"""


@dataclass(frozen=True)
class DownloadSettings:
    """Parts of COCO 2017 to download, one or more."""

    download_train: bool = False
    """118,287 training images (19.3 GB, twice that while they are unpacked) and their annotations"""
    download_val: bool = False
    """5,000 validation images (816 MB) and their annotations (253 MB, together with the training annotations)"""
    download_test: bool = False
    """40,670 test images (6.6 GB) and the lists of their names; COCO does not publish their annotations"""


@dataclass(frozen=True)
class DataCheckSettings:
    """The data to check, and settings of the planned training."""

    data: Path
    """folder or file of a data set: COCO, YOLO, Pascal VOC, labelme, CVAT, CreateML or Open Images"""
    _: KW_ONLY
    images: Path | None = None
    """folder of the images of one annotation file, if they are not beside it"""
    val_annotations: Path | None = None
    """annotations of a validation split, to compare with the first file as the training split"""
    val_images: Path | None = None
    """folder of the images of --val_annotations, if they are not beside it"""
    skip_images: bool = False
    """do not open images: faster, but finds copies by file name and boxes only, and no damaged files"""
    image_size: ImageSize = DataConfig.image_size
    """input size of the training in pixels, a number or HEIGHTxWIDTH, in multiples of the patch (14)"""
    resize_mode: Literal["stretch", "letterbox"] = DataConfig.resize_mode
    """how the training resizes images"""
    num_queries: int = setting(DecoderConfig.num_queries, at_least=1)
    """object queries of the training: the largest number of objects that it finds in an image"""
    max_megapixels: float = setting(DataConfig.max_megapixels, above=0)
    """largest picture to open"""
    output: Path | None = None
    """JSON file to write, with every finding and all its ids"""


@dataclass(frozen=True)
class ConvertSettings:
    """The data set to convert, and the one to write."""

    data: Path
    """folder or file of a data set: COCO, YOLO, Pascal VOC, labelme, CVAT, CreateML or Open Images"""
    output: Path
    """new folder for the converted data set; an earlier conversion there is moved aside"""
    _: KW_ONLY
    to: Literal["coco", "yolo", "voc", "labelme", "cvat"]
    """format to write"""
    pictures: Literal["copy", "link", "none"] = "copy"
    """copy the pictures; link them, which takes no space but makes a change of one file a change of both; or none"""


@dataclass(frozen=True)
class RecommendSettings:
    """The data to train on, and the file to write."""

    data: Path
    """folder or file of a data set: COCO, YOLO, Pascal VOC, labelme, CVAT, CreateML or Open Images"""
    _: KW_ONLY
    output: Path = Path("config.yaml")
    """settings file to write; only a file of an earlier recommend is replaced, and it is kept if it was changed"""
    device: str = "auto"
    """device of the training: auto, cpu, cuda, cuda:1 or mps"""
