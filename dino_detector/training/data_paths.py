"""Paths of the images and annotations of a run: named by flags, found in a data set, or COCO 2017."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dino_detector.config import Config
from dino_detector.data.formats.splits import AnnotationFile
from dino_detector.data.layouts import find_sources, source_of
from dino_detector.download import CocoSplit, annotations_path, images_dir
from dino_detector.errors import InputError
from dino_detector.plain_text import listed


class SplitPaths(NamedTuple):
    """Image folder and annotations of one split; the user's own test images have no annotations.

    ``flag`` downloads missing files of COCO 2017, and is None for the user's own data. ``download`` says whether the
    user gives the flag. A split of a data set has its images near its annotations, and ``images`` is None.
    """

    split: CocoSplit
    images: Path | None
    source: AnnotationFile | None = None
    flag: str | None = None
    download: bool = False


PathsOfSplits = tuple[SplitPaths | None, SplitPaths | None, SplitPaths | None]
"""training, validation and test split of a run; None for a split that it does not use"""


def find_paths(config: Config, *, training: bool) -> PathsOfSplits:
    """Find the paths of the training, validation and test images of a run, without opening an image or downloading.

    A run without named images uses COCO 2017 in ``data_dir``: for training, for validation if training uses it too, and
    for an evaluation that names no images at all. A debug run has no validation split: it is evaluated on its training
    images. With ``val_fraction``, training has no validation split, and the validation split of an evaluation is the
    training split; `dino_detector.training.run_data` takes a part of it.

    Raises:
        InputError: a split is missing, lacks its images or its annotations, or is given twice.
    """
    find = _named_by_flags if config.data.data is None else _found
    train, val, test = find(config, training=training)
    if config.subset.test_mini and test is None:
        raise InputError("--test_mini needs --testdev_images, or --download_test_data; add one or leave it out")
    return train, val, test


def _named_by_flags(config: Config, *, training: bool) -> PathsOfSplits:
    """Find the splits whose paths the user names one by one, or COCO 2017."""
    train = val = None
    divides = config.data.val_fraction is not None and not config.subset.debug
    if training or config.subset.debug or divides:
        train = _named(config, "train") or _coco(config, "train")
        if train is None:
            what = "training" if training else "--val_fraction" if divides else "evaluating a debug run"
            raise InputError(
                f"{what} needs --train_images and --train_annotations, "
                f"or --download_train_data to fetch COCO 2017 to {config.download.data_dir}; see --help"
            )
    elif config.data.download_train_data:
        raise InputError("--download_train_data has no use in an evaluation; leave it out")
    test = _named(config, "test")
    if not config.subset.debug:
        val = _named(config, "val")
        if val is None and (train.flag is not None if train is not None else test is None):
            val = _coco(config, "val")
        if divides:
            _refuse_fraction(train.source.path, val)
            return (train, None, test) if training else (None, train._replace(split="val"), test)
        if not training and val is None and test is None:
            raise InputError(
                "evaluation needs --val_images and --val_annotations, or --testdev_images, or --download_val_data or "
                "--download_test_data to fetch COCO 2017; see --help"
            )
    return train, val, test


def _found(config: Config, *, training: bool) -> PathsOfSplits:
    """Find the splits of the data set that the user names."""
    data, settings = config.data.data, config.flat()
    names = [f"{split}_{part}" for split in ("train", "val") for part in ("images", "annotations")]
    names += [f"download_{split}_data" for split in ("train", "val", "test")]
    if given := [name for name in names if settings[name]]:
        raise InputError(f"{data} names the images and annotations, so it excludes --{given[0]}; leave one out")
    splits = {source.name: SplitPaths(source.name, None, source) for source in find_sources(data)}
    test, debug = _named(config, "test"), config.subset.debug
    divides = config.data.val_fraction is not None and not debug
    from_train = training or debug or divides
    if len(splits) == 1 and not splits.keys() & {"train", "val", "test"}:  # the only split serves for both
        chosen = next(iter(splits.values()))
    else:
        wanted = ["train"] if from_train else ["val", "test"]
        chosen = next((splits[name] for name in wanted if name in splits), None)
        if chosen is None:
            remedy = f"name one folder or file {wanted[0]}"
            if splits.keys() == {"train"}:
                remedy += ", or give the --val_fraction of the training"
            raise InputError(f"{data}: has {listed(list(splits))}, but no split {' or '.join(wanted)}; {remedy}")
    if divides:
        _refuse_fraction(data, splits.get("val"))
    if training or debug:
        return chosen._replace(split="train"), None if debug or divides else splits.get("val"), test
    return None, chosen._replace(split="val"), test


def _refuse_fraction(data: Path, val: SplitPaths | None) -> None:
    """Raise `InputError` if there are validation images, so that none are to be taken from the training images."""
    if val is not None:
        raise InputError(
            f"{data}: has validation images ({val.source.path}), so leave out --val_fraction or the validation images"
        )


def _named(config: Config, split: CocoSplit) -> SplitPaths | None:
    """Return the paths of a split that the user names or downloads."""
    settings = config.flat()
    names = ["testdev_images"] if split == "test" else [f"{split}_images", f"{split}_annotations"]
    given = [name for name in names if settings[name] is not None]
    if settings[f"download_{split}_data"]:
        if given:
            flag = f"--download_{split}_data"
            raise InputError(f"{flag} fetches COCO 2017 and uses it, so it excludes --{given[0]}; leave one out")
        return _coco(config, split, download=True)
    if given and given != names:
        (missing,) = set(names) - set(given)
        raise InputError(f"--{given[0]} needs --{missing}; see --help")
    if not given:
        return None
    images, *annotations = (Path(settings[name]) for name in names)
    return SplitPaths(split, images, source_of(annotations[0]) if annotations else None)


def _coco(config: Config, split: CocoSplit, *, download: bool = False) -> SplitPaths | None:
    """Return COCO 2017 in ``data_dir``: to be downloaded, or at least partly there after an earlier download."""
    folder, flag = config.download.data_dir, f"--download_{split}_data"
    source = AnnotationFile(split, annotations_path(split, folder))
    paths = SplitPaths(split, images_dir(split, folder), source, flag, download)
    return paths if download or (paths.images.is_dir() and source.path.is_file()) else None
