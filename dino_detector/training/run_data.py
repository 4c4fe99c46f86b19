"""Images and annotations of a run: found, read, checked, cut down to a subset, and downloaded on request."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from dino_detector.config import Config, DownloadConfig, SubsetConfig
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.subsets import Subset, class_balance, select
from dino_detector.data.coco.unlabelled import find_image_info, list_pictures, read_image_info
from dino_detector.data.formats.reading import format_of, has_class_ids
from dino_detector.data.layouts import AnnotationFile, find_images_dir, find_sources
from dino_detector.download import (
    CocoSplit,
    annotations_path,
    download_annotations,
    download_images,
    download_split,
    images_dir,
)
from dino_detector.errors import InputError
from dino_detector.plain_text import listed, quoted
from dino_detector.storage.files import write_whole
from dino_detector.structures.categories import Categories, check_categories, require_num_classes

if TYPE_CHECKING:
    from dino_detector.data.items import ItemImages

log = logging.getLogger(__name__)

VAL_ANNOTATIONS, EVALUATED_ANNOTATIONS = "val_annotations.json", "evaluated_annotations.json"
"""files of the ground truth of a data set in memory: of a training, and of an evaluation"""
MINI = {"1k": 1_000, "5k": 5_000, "10k": 10_000}
"""number of training images of a COCO mini"""


class SplitPaths(NamedTuple):
    """Image folder and annotation file of one split; the user's own test images have no annotation file.

    ``flag`` downloads missing files of COCO 2017, and is None for the user's own data. ``download`` says whether the
    user gives the flag. A split that was ``found`` in a data set has its images near its annotations.
    """

    split: CocoSplit
    images: Path | None
    annotations: Path | None = None
    flag: str | None = None
    download: bool = False
    found: AnnotationFile | None = None


PathsOfSplits = tuple[SplitPaths | None, SplitPaths | None, SplitPaths | None]
"""training, validation and test split of a run; None for a split that it does not use"""


class SplitData(NamedTuple):
    """Images and annotations of one split.

    Attributes:
        folder: folder of the images, perhaps still to be downloaded.
        annotations: annotations of these images alone; test images have no boxes.
        download: what to download: all images of the split, or the images of the subset; None if they are there.
        subset: the subset that was selected; None for the whole split.
        unreadable: one line for each file in a folder of test images that is not an image.
        items: the images of a data set in memory; None for files.
    """

    folder: Path
    annotations: CocoAnnotations
    split: CocoSplit
    download: Literal["all", "subset"] | None = None
    subset: Subset | None = None
    unreadable: tuple[str, ...] = ()
    items: ItemImages | None = None


class RunData(NamedTuple):
    """The splits of a run; None for a split that the run does not use. ``val`` of a debug run is ``train``."""

    train: SplitData | None
    val: SplitData | None
    test: SplitData | None

    @property
    def splits(self) -> list[SplitData]:
        """Every split once."""
        val = None if self.val is self.train else self.val
        return [split for split in (self.train, val, self.test) if split is not None]

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """The subsets that were selected."""
        return tuple(split.subset for split in self.splits if split.subset is not None)

    def fetch(self, config: DownloadConfig) -> None:
        """Download the missing images: a whole split, or the images of a subset.

        Raises:
            InputError: the download failed, or an image is missing after it.
        """
        for data in self.splits:
            if data.download == "all":
                download_split(data.split, config)
            elif data.download == "subset":
                download_images(data.split, data.annotations.images.file_names, config)
            if data.download:
                data.annotations.with_files(data.folder)

    def check_classes(self, known: Categories, *, source: Path, num_classes: int | None) -> None:
        """Raise `InputError` if the validation images or ``num_classes`` do not fit the known classes of ``source``."""
        if self.val is not None:
            val = self.val.annotations
            check_categories(val.categories, known=known, source=val.path, known_source=source)
        require_num_classes(num_classes, known, source=source)

    def write_subsets(self, folder: Path) -> None:
        """Write the files that reproduce the subsets."""
        for subset in self.subsets:
            log.info("the images of %s are listed in %s", subset.name, subset.write(folder))


class ReadData(Protocol):
    """A function that reads the data of a run, such as `read_run_data`."""

    def __call__(self, config: Config, *, training: bool, categories: Categories | None = None) -> RunData:
        """Read and check the data."""


def find_paths(config: Config, *, training: bool) -> PathsOfSplits:
    """Find the paths of the training, validation and test images of a run, without opening an image or downloading.

    A run without named images uses COCO 2017 in ``data_dir``: for training, for validation if training uses it too, and
    for an evaluation that names no images at all. A debug run has no validation split: it is evaluated on its training
    images.

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
    if training or config.subset.debug:
        train = _named(config, "train") or _coco(config, "train")
        if train is None:
            raise InputError(
                f"{'training' if training else 'evaluating a debug run'} needs --train_images and --train_annotations, "
                f"or --download_train_data to fetch COCO 2017 to {config.download.data_dir}; see --help"
            )
    elif config.data.download_train_data:
        raise InputError("--download_train_data has no use in an evaluation; leave it out")
    test = _named(config, "test")
    if not config.subset.debug:
        val = _named(config, "val")
        if val is None and (train.flag is not None if training else test is None):
            val = _coco(config, "val")
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
    splits = {one.name: SplitPaths(one.name, one.images, one.path, found=one) for one in find_sources(data)}
    test, trains = _named(config, "test"), training or config.subset.debug
    if len(splits) == 1 and not splits.keys() & {"train", "val", "test"}:  # the only split serves for both
        only = next(iter(splits.values()))._replace(split="train" if training else "val")
        return (only, None, test) if trains else (None, only, test)
    wanted = ["train"] if trains else ["val", "test"]
    chosen = next((splits[name] for name in wanted if name in splits), None)
    if chosen is None:
        lacks = f"but no split {' or '.join(wanted)}; name one folder or file {wanted[0]}"
        raise InputError(f"{data}: has {listed(list(splits))}, {lacks}")
    if trains:
        return chosen, None if config.subset.debug else splits.get("val"), test
    return None, chosen._replace(split="val"), test


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
    return SplitPaths(split, *(Path(settings[name]) for name in names)) if given else None


def _coco(config: Config, split: CocoSplit, *, download: bool = False) -> SplitPaths | None:
    """Return COCO 2017 in ``data_dir``: to be downloaded, or at least partly there after an earlier download."""
    folder, flag = config.download.data_dir, f"--download_{split}_data"
    paths = SplitPaths(split, images_dir(split, folder), annotations_path(split, folder), flag, download)
    return paths if download or (paths.images.is_dir() and paths.annotations.is_file()) else None


def read_run_data(config: Config, *, training: bool, categories: Categories | None = None) -> RunData:
    """Read and check the data of a run, and download annotations on request; `RunData.fetch` downloads images.

    ``categories`` are the classes of the evaluated detector; None takes the classes of the training images.

    Raises:
        InputError: the data is wrong, as far as that shows before an image is decoded or downloaded.
    """
    train_paths, val_paths, test_paths = find_paths(config, training=training)
    if config.data.data is not None:
        found = filter(None, (train_paths, val_paths))
        parts = [f"{paths.split} from {format_of(paths.annotations)} {paths.annotations}" for paths in found]
        log.info("%s: %s", config.data.data, ", ".join(parts))
    train = None if train_paths is None else _read_annotated(config, train_paths)
    # an indices file lists images of one split: of the training split, if there is one
    val = None if val_paths is None else _read_annotated(config, val_paths, may_be_listed=train is None)
    known = categories or (None if train is None else train.annotations.categories)
    if val is not None and known is not None and not has_class_ids(val.annotations.path):
        val = val._replace(annotations=val.annotations.numbered_like(known))
    if config.subset.debug:
        val = train
        if config.data.val_images or config.data.download_val_data:
            log.info("a debug run is evaluated on its training images; the validation images are not used")
    test = None
    if test_paths is not None:
        test = _read_test(config, test_paths, categories or train.annotations.categories)
    return RunData(train, val, test)


def _read_annotated(config: Config, paths: SplitPaths, *, may_be_listed: bool = True) -> SplitData:
    """Read the training or the validation split."""
    settings = config.subset
    if paths.download:
        download_annotations(paths.split, config.download)
    find_folder = None
    if paths.found is not None:
        root = config.data.data if config.data.data.is_dir() else config.data.data.parent
        find_folder = partial(find_images_dir, source=paths.found, folder=root, given=None)
    images = None if paths.download else paths.images
    whole = CocoAnnotations.read(paths.annotations, images=images, find_folder=find_folder)
    if paths.images is None:
        folder = find_folder(whole.images.file_names)
        if folder is None:
            name = quoted(whole.images.file_names[0])
            raise InputError(f"{whole.path}: the images, such as {name}, were not found near it; put them beside it")
        paths = paths._replace(images=folder)
    part, subset, remedy = whole, None, ("--coco_mini_size", "--coco_mini_seed")
    if settings.debug:
        remedy = ("--debug_samples", "--seed")
        part, subset = cut_down(config, whole, paths.split)
    elif settings.use_coco_mini:
        part, subset = _coco_mini(settings, whole, paths.split, may_be_listed=may_be_listed)
    if paths.split == "train":
        whole.require_boxes()
        if not len(part.training.labels):
            raise InputError(
                f"{whole.path}: none of the {len(part.images)} selected images has a box to train on; give a larger "
                f"{remedy[0]}, or another {remedy[1]}"
            )
    return _with_files(paths, part, subset)


def cut_down(config: Config, whole: CocoAnnotations, split: CocoSplit) -> tuple[CocoAnnotations, Subset]:
    """Return the images of a debug run, selected by the seed, as annotations and as a subset."""
    size, seed = config.subset.debug_samples, config.training.seed
    chosen = _select(whole, size, seed, flag="debug_samples")
    return _cut(whole, chosen, split, "debug", str(size), seed)


def write_items(val: SplitData | None) -> None:
    """Write the ground truth of a validation data set in memory to the file that the metrics file names."""
    if val is not None and val.items is not None:
        write_whole(val.annotations.path, json.dumps(val.annotations.ground_truth, ensure_ascii=False) + "\n")


def _read_test(config: Config, paths: SplitPaths, categories: Categories) -> SplitData:
    if paths.download:
        download_annotations("test", config.download)
    info, unreadable, subset = find_image_info(paths.images), (), None
    if info is None:
        images, unreadable = list_pictures(paths.images, categories)
    else:
        images = read_image_info(info, categories)
    if config.subset.test_mini:
        size, seed = config.subset.test_mini_size, config.training.seed
        chosen = _select(images, size, seed, flag="test_mini_size")
        subset = Subset(f"test_mini_{size}_seed{seed}", "test", str(size), seed, chosen)
        images = images.restricted_to(chosen)
    return _with_files(paths, images, subset)._replace(unreadable=unreadable)


def _coco_mini(
    settings: SubsetConfig, whole: CocoAnnotations, split: CocoSplit, *, may_be_listed: bool
) -> tuple[CocoAnnotations, Subset]:
    """Return the COCO mini of a split: the images of ``coco_mini_indices_file``, or images selected by the seed."""
    size, seed, path = settings.coco_mini_size, settings.coco_mini_seed, settings.coco_mini_indices_file
    if path is None or not may_be_listed:
        count, available = MINI[size], len(whole.images)
        if split == "val":  # 10k is evaluated on all validation images
            count = available if size == "10k" else min(count, available)
        chosen = _select(whole, count, seed, flag="coco_mini_size")
    else:
        listed = Subset.read(path)
        for name, held, wanted in (("coco_mini_size", listed.size, size), ("coco_mini_seed", listed.seed, seed)):
            if held != wanted:
                raise InputError(f"{path}: holds a subset of {name} {held}, but --{name} is {wanted}; leave that out")
        listed.require_source(whole, path=path, split=split)
        chosen = listed.image_ids
    return _cut(whole, chosen, split, "coco_mini", size, seed)


def _cut(
    whole: CocoAnnotations, chosen: Sequence[int], split: CocoSplit, kind: str, size: str, seed: int
) -> tuple[CocoAnnotations, Subset]:
    """Return the chosen images as annotations and as a subset, and log how balanced its classes are."""
    name = f"{kind}_{size}_seed{seed}"
    part = whole.restricted_to(chosen)
    counts = f"{len(part.images):,} of the {len(whole.images):,}"
    log.info("%s: %s images of %s; %s", name, counts, whole.path.name, class_balance(whole, part))
    return part, Subset.of(part, whole, name=name, split=split, size=size, seed=seed)


def _with_files(paths: SplitPaths, annotations: CocoAnnotations, subset: Subset | None) -> SplitData:
    """Return a split with image files that have been found, or are to be downloaded."""
    download = None
    if paths.download:
        download = "all" if subset is None else "subset"
    else:
        try:
            annotations = annotations.with_files(paths.images)
        except InputError as error:
            if paths.flag is None:
                raise
            raise InputError(f"{error}; or fetch what is missing with {paths.flag}") from error
    return SplitData(paths.images, annotations, paths.split, download, subset)


def _select(whole: CocoAnnotations, size: int, seed: int, *, flag: str) -> tuple[int, ...]:
    """Select image ids by the seed; raise `InputError` if there are too few images."""
    available = len(whole.images)
    if size > available:
        remedy = "train without --use_coco_mini" if flag == "coco_mini_size" else f"give --{flag} {available} or less"
        raise InputError(f"{whole.path}: has {available:,} images, fewer than the {size:,} of --{flag}; {remedy}")
    return select(whole.images.ids.tolist(), size=size, seed=seed)
