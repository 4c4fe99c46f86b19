"""Where the images of a run are: named by the user, to be fetched, or found in the folder of downloads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dino_detector.config import Config
from dino_detector.download import Split, annotations_path, images_dir
from dino_detector.errors import InputError


class Place(NamedTuple):
    """Images of a split.

    Attributes:
        images: their folder.
        annotations: their file; None for test images.
        flag: the flag that fetches them, where that is what the user may do about missing files.
        fetch: whether they are to be fetched first.
    """

    images: Path
    annotations: Path | None
    flag: str | None = None
    fetch: bool = False


class Places(NamedTuple):
    """The splits of a run; None for one that it does without."""

    train: Place | None
    val: Place | None
    test: Place | None


def find_places(config: Config, *, training: bool) -> Places:
    """What a run trains on, is evaluated on, and detects in. Opens no file and fetches nothing.

    COCO in ``data_dir`` is used for training where no images are named, for validation where training uses it too,
    and for an evaluation that names nothing. A debug run is evaluated on what it trains on.

    Raises:
        InputError: where something is missing, given by halves or given twice.
    """
    train = val = None
    debug = config.subset.debug
    if config.data.download_train_data and not (training or debug):
        raise InputError("--download_train_data has no use in an evaluation; leave it out")
    if training or debug:
        train = _annotated(config, "train") or _found(config, "train")
        if train is None:
            raise InputError(
                f"{'training' if training else 'evaluating a debug run'} needs --train_images and --train_annotations, "
                f"or --download_train_data to fetch COCO 2017 to {config.download.data_dir}; see --help"
            )
    test = _test(config)
    if not debug:
        val = _annotated(config, "val")
        wanted = train.flag is not None if training else test is None
        if val is None and wanted:
            val = _found(config, "val")
        if not training and val is None and test is None:
            raise InputError(
                "evaluation needs --val_images and --val_annotations, or --testdev_images, or --download_val_data or "
                "--download_test_data to fetch COCO 2017; see --help"
            )
    if config.subset.test_mini and test is None:
        raise InputError("--test_mini needs --testdev_images, or --download_test_data; add one or leave it out")
    return Places(train, val, test)


def _annotated(config: Config, split: Split) -> Place | None:
    """The split where the user names it or has it fetched."""
    settings = config.flat()
    images, annotations = settings[f"{split}_images"], settings[f"{split}_annotations"]
    flag = f"--download_{split}_data"
    if settings[f"download_{split}_data"]:
        if images or annotations:
            given = f"--{split}_images" if images else f"--{split}_annotations"
            raise InputError(f"{flag} fetches COCO 2017 and uses it, so it excludes {given}; leave one out")
        return _coco(config, split, fetch=True)
    if images is None and annotations is None:
        return None
    if images is None or annotations is None:
        names = ("images", "annotations") if annotations is None else ("annotations", "images")
        raise InputError(f"--{split}_{names[0]} needs --{split}_{names[1]}; see --help")
    return Place(Path(images), Path(annotations))


def _test(config: Config) -> Place | None:
    images = config.data.testdev_images
    if config.data.download_test_data:
        if images is not None:
            raise InputError(
                "--download_test_data fetches COCO 2017 and uses it, so it excludes --testdev_images; leave one out"
            )
        return _coco(config, "test", fetch=True)
    return None if images is None else Place(images, None)


def _found(config: Config, split: Split) -> Place | None:
    """The split in ``data_dir``, where it has been fetched at least in part."""
    place = _coco(config, split, fetch=False)
    return place if place.images.is_dir() and place.annotations.is_file() else None


def _coco(config: Config, split: Split, *, fetch: bool) -> Place:
    data_dir = config.download.data_dir
    return Place(images_dir(split, data_dir), annotations_path(split, data_dir), f"--download_{split}_data", fetch)
