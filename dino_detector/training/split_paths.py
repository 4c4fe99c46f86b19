"""Paths of a run's images and annotations: named by the user, to be downloaded, or already in ``data_dir``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dino_detector.config import Config
from dino_detector.download import Split, annotations_path, images_dir
from dino_detector.errors import InputError


class SplitPaths(NamedTuple):
    """Paths of one split.

    Attributes:
        images: folder of the images.
        annotations: annotation file; None for test images.
        download_flag: flag that downloads missing files of COCO 2017; None for the user's own data.
        download: whether to download the split before the run.
    """

    images: Path
    annotations: Path | None
    download_flag: str | None = None
    download: bool = False


class RunPaths(NamedTuple):
    """Paths of a run's splits; None for a split that the run does not use."""

    train: SplitPaths | None
    val: SplitPaths | None
    test: SplitPaths | None


def find_paths(config: Config, *, training: bool) -> RunPaths:
    """Find the paths of the splits that a run uses, without opening a file or downloading.

    A run without named images uses COCO 2017 in ``data_dir``: for training, for validation if training uses it too, and
    for an evaluation that names no images at all. A debug run has no validation split: it is evaluated on its training
    images.

    Raises:
        InputError: A split is missing, lacks its images or its annotations, or is given twice.
    """
    debug = config.subset.debug
    uses_train = training or debug
    if config.data.download_train_data and not uses_train:
        raise InputError("--download_train_data has no use in an evaluation; leave it out")
    train = val = None
    if uses_train:
        train = _annotated(config, "train") or _coco_in_data_dir(config, "train")
        if train is None:
            raise InputError(
                f"{'training' if training else 'evaluating a debug run'} needs --train_images and --train_annotations, "
                f"or --download_train_data to fetch COCO 2017 to {config.download.data_dir}; see --help"
            )
    test = _test(config)
    if not debug:
        val = _annotated(config, "val")
        coco_fits = train.download_flag is not None if training else test is None
        if val is None and coco_fits:
            val = _coco_in_data_dir(config, "val")
        if not training and val is None and test is None:
            raise InputError(
                "evaluation needs --val_images and --val_annotations, or --testdev_images, or --download_val_data or "
                "--download_test_data to fetch COCO 2017; see --help"
            )
    if config.subset.test_mini and test is None:
        raise InputError("--test_mini needs --testdev_images, or --download_test_data; add one or leave it out")
    return RunPaths(train, val, test)


def _annotated(config: Config, split: Split) -> SplitPaths | None:
    """Return the paths of an annotated split that the user names or downloads."""
    settings = config.flat()
    images, annotations = settings[f"{split}_images"], settings[f"{split}_annotations"]
    if settings[f"download_{split}_data"]:
        if images or annotations:
            _refuse_both(split, f"--{split}_images" if images else f"--{split}_annotations")
        return _coco(config, split, download=True)
    if images is None and annotations is None:
        return None
    if images is None or annotations is None:
        given, missing = ("images", "annotations") if annotations is None else ("annotations", "images")
        raise InputError(f"--{split}_{given} needs --{split}_{missing}; see --help")
    return SplitPaths(Path(images), Path(annotations))


def _test(config: Config) -> SplitPaths | None:
    images = config.data.testdev_images
    if config.data.download_test_data:
        if images is not None:
            _refuse_both("test", "--testdev_images")
        return _coco(config, "test", download=True)
    return None if images is None else SplitPaths(images, None)


def _refuse_both(split: Split, given: str) -> None:
    raise InputError(f"--download_{split}_data fetches COCO 2017 and uses it, so it excludes {given}; leave one out")


def _coco_in_data_dir(config: Config, split: Split) -> SplitPaths | None:
    """Return the split in ``data_dir`` if an earlier run has downloaded at least a part of it."""
    paths = _coco(config, split, download=False)
    return paths if paths.images.is_dir() and paths.annotations.is_file() else None


def _coco(config: Config, split: Split, *, download: bool) -> SplitPaths:
    data_dir = config.download.data_dir
    flag = f"--download_{split}_data"
    return SplitPaths(images_dir(split, data_dir), annotations_path(split, data_dir), flag, download)
