"""Keyword arguments of `analyze`; ``python -m tools.write_keywords`` writes this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from dino_detector.api.keywords import PathLike


class AnalyzeKeywords(TypedDict, total=False):
    """Settings of `analyze`."""

    metrics_file: PathLike | Sequence[PathLike]
    """metrics of training or evaluation, such as outputs/val_metrics_epoch_10.json; the first of two is the
    baseline"""
    predictions_file: PathLike | None
    """detections in COCO's results format. With test_images: annotated pictures and charts. With metrics_file: the
    detections of the metrics, if the two files are no longer in one folder"""
    test_images: PathLike | None
    """folder of the images of predictions_file"""
    test_annotations: PathLike | None
    """annotations of test_images in any format, or a COCO list with the names of files and classes; with
    annotations, metrics and report.html are written too. It is not needed for COCO's test-dev2017 if
    testdev_image_info.json is beside the detections, nor if images are named by their ids"""
    num_visualizations: int
    """pictures to draw, evenly spaced over the sorted ids of the images with something to draw"""
    confidence_threshold: float
    """lowest score of a detection to draw and count"""
    run_eval: bool
    """evaluate model_path on DATA, or val_images and val_annotations; metrics_file is then the baseline"""
    model_path: PathLike | None
    """checkpoint to evaluate"""
    val_images: PathLike | None
    """folder of the images to evaluate on, or the new folder of the images of metrics_file"""
    val_annotations: PathLike | None
    """annotations of val_images, in the format of any labelling tool"""
    val_fraction: float | None
    """fraction of DATA that the training took for validation; run_eval evaluates the same images"""
    by_name: bool
    """let run_eval compare classes by name, where ids of DATA and of the detector differ"""
    skip_unreadable: bool
    """let run_eval leave out images that can't be read, and name them"""
    gallery_images: int
    """largest number of worst images in report.html"""
    device: str
    """device of run_eval: auto, cpu, cuda, cuda:1 or mps"""
    batch_size: int
    """images per batch of run_eval"""
    num_workers: int
    """processes that load the images of run_eval; 0 loads in the main process"""
    max_megapixels: float
    """largest picture to open; the default is Pillow's limit, which guards against files that fill the memory"""
    max_detections: int
    """detections per image and class that the metrics of predictions_file or run_eval count, at least COCO's 100; a
    metrics file has its own number"""
    dino_model: str | None
    """name or folder of the base model; None means the model that the checkpoint names"""
    output_dir: PathLike
    """folder for all files; files of an earlier call with the same names are moved aside"""
