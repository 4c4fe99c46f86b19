"""Images and annotations of a run: read, checked, divided, cut down to a subset, and downloaded on request."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

from dino_detector.config import Config, DownloadConfig, SubsetConfig
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.subsets import Subset, class_balance, select
from dino_detector.data.coco.unlabelled import find_image_info, list_pictures, read_image_info
from dino_detector.data.formats.reading import FORMATS
from dino_detector.data.holdout import hold_out
from dino_detector.download import CocoSplit, download_annotations, download_images, download_split
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, listed, quoted
from dino_detector.storage.files import write_whole
from dino_detector.structures.categories import Categories, check_categories, require_num_classes, side_by_side
from dino_detector.training.data_paths import PathsOfSplits, SplitPaths, find_paths

if TYPE_CHECKING:
    from dino_detector.data.items import ItemImages

log = logging.getLogger(__name__)

VAL_ANNOTATIONS, EVALUATED_ANNOTATIONS = "val_annotations.json", "evaluated_annotations.json"
"""files of the ground truth of a data set in memory: of a training, and of an evaluation"""
MINI = {"1k": 1_000, "5k": 5_000, "10k": 10_000}
"""number of training images of a COCO mini"""


class SplitData(NamedTuple):
    """Images and annotations of one split.

    Attributes:
        folder: folder of the images, perhaps still to be downloaded.
        annotations: annotations of these images alone; test images have no boxes.
        download: what to download: all images of the split, or the images of the subset; None if they are there.
        subset: the subset that was selected; None for the whole split.
        unreadable: one line for each file in a folder of test images that is not an image.
        items: the images of a data set in memory; None for files.
        used_names: names of the classes that have a box in the whole split, before a subset is taken.
        empty_classes: number of classes without a box that are left out.
    """

    folder: Path
    annotations: CocoAnnotations
    split: CocoSplit
    download: Literal["all", "subset"] | None = None
    subset: Subset | None = None
    unreadable: tuple[str, ...] = ()
    items: ItemImages | None = None
    used_names: frozenset[str] = frozenset()
    empty_classes: int = 0


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
        """Raise `InputError` if the validation images or ``num_classes`` do not fit the known classes of ``source``.

        Log both lists of classes side by side before that.
        """
        if self.val is not None:
            val = self.val.annotations
            try:
                check_categories(val.categories, known=known, source=val.path, known_source=source)
            except InputError:
                for line in side_by_side(known, val.categories, titles=(source.name, val.path.name)):
                    log.info("%s", line)
                if lacking := [
                    quoted(name) for name in val.categories.names if name in val.used_names - {*known.names}
                ]:
                    has = f"has boxes of {listed(lacking)}, but the classes of {source} are {known.listed()}"
                    remedy = (
                        "rename the class if it is one of these; else add training images of it, or remove its boxes"
                    )
                    raise InputError(f"{val.path}: {has}; {remedy}") from None
                raise
        left_out = 0 if self.train is None else self.train.empty_classes
        require_num_classes(num_classes, known, source=source, left_out=left_out)

    def write_subsets(self, folder: Path) -> None:
        """Write the files that reproduce the subsets."""
        for subset in self.subsets:
            log.info("the images of %s are listed in %s", subset.name, subset.write(folder))


class ReadData(Protocol):
    """A function that reads the data of a run, such as `read_run_data`."""

    def __call__(self, config: Config, *, training: bool, categories: Categories | None = None) -> RunData:
        """Read and check the data."""


def read_run_data(
    config: Config, *, training: bool, categories: Categories | None = None, paths: PathsOfSplits | None = None
) -> RunData:
    """Read and check the data of a run, and download annotations on request; `RunData.fetch` downloads images.

    Args:
        config: settings.
        training: read the training images too.
        categories: the classes of the evaluated detector; None takes the classes of the training images.
        paths: result of `find_paths`, if it was called before.

    Raises:
        InputError: the data is wrong, as far as that shows before an image is decoded or downloaded.
    """
    train_paths, val_paths, test_paths = paths or find_paths(config, training=training)
    if config.data.data is not None:
        parts = [
            f"{one.split} from {one.source.format} {one.source.path}"
            for one in (train_paths, val_paths)
            if one is not None
        ]
        log.info("%s: %s", config.data.data, ", ".join(parts))
    fraction = None if config.subset.debug else config.data.val_fraction
    if fraction is not None:
        train, val = _read_divided(config, train_paths or val_paths, fraction, training=training)
    else:
        train = None if train_paths is None else _read_annotated(config, train_paths)
        # an indices file lists images of one split: of the training split, if there is one
        val = None if val_paths is None else _read_annotated(config, val_paths, may_be_listed=train is None)
    if train is not None and not config.data.keep_empty_classes:
        train = _without_empty_classes(train, val)
    known = categories or (None if train is None else train.annotations.categories)
    if val is not None and known is not None:
        has_ids = FORMATS[(val_paths or train_paths).source.format].has_class_ids
        val = val._replace(annotations=_in_classes(val.annotations, known, by_name=config.data.by_name or not has_ids))
    if train is not None and val is not None:
        _warn_of_shared_images(train, val)
    if config.subset.debug:
        val = train
        if config.data.val_images or config.data.download_val_data:
            log.info("a debug run is evaluated on its training images; the validation images are not used")
    test = None
    if test_paths is not None:
        test = _read_test(config, test_paths, categories or train.annotations.categories)
    return RunData(train, val, test)


def _warn_of_shared_images(train: SplitData, val: SplitData) -> None:
    """Warn if the detector is evaluated on images that it trains on."""
    paths = [{f"{one.folder.absolute()}/{name}" for name in one.annotations.images.file_names} for one in (train, val)]
    if shared := len(paths[0] & paths[1]):
        text = "%s of %s validation images are training images too, so the AP will be too high; give other images"
        log.warning(text, f"{shared:,}", f"{len(paths[1]):,}")


def _without_empty_classes(train: SplitData, val: SplitData | None) -> SplitData:
    """Return the training split without the classes that have no box in its whole file or the validation file."""
    used = train.used_names | (frozenset() if val is None else val.used_names)
    empty = [name for name in train.annotations.categories.names if name not in used]
    if not empty:
        return train
    text = "%s: %s without a box: %s; left out of the detector's classes (--keep_empty_classes keeps them)"
    log.info(text, train.annotations.path, counted(len(empty), "class", "classes"), listed(empty))
    return train._replace(annotations=train.annotations.with_classes(used), empty_classes=len(empty))


def _in_classes(val: CocoAnnotations, known: Categories, *, by_name: bool) -> CocoAnnotations:
    """Return validation annotations with the ids of the known classes; a class without a box may be left out."""
    if by_name:
        val = val.numbered_like(known)
    pairs = set(zip(known.ids, known.names, strict=True))
    named = zip(val.categories.ids, val.categories.names, strict=True)
    return val.with_classes([name for number, name in named if (number, name) in pairs])


def _read_annotated(config: Config, paths: SplitPaths, *, may_be_listed: bool = True) -> SplitData:
    """Read the training or the validation split."""
    whole, paths = _read_whole(config, paths)
    return _selected(config, paths, whole, used_names=whole.used_names, may_be_listed=may_be_listed)


def _read_divided(
    config: Config, paths: SplitPaths, fraction: float, *, training: bool
) -> tuple[SplitData | None, SplitData]:
    """Divide the training split into training and validation images; return None for the first in an evaluation."""
    if paths.download:
        raise InputError("--val_fraction divides your own images; COCO 2017 has validation images: --download_val_data")
    whole, paths = _read_whole(config, paths)
    whole = whole.with_files(paths.images)
    held_out = hold_out(paths.images, whole.images.file_names, fraction, source=whole.path)
    log.info("%s: %s", whole.path, held_out.summary)
    for warning in held_out.warnings:
        log.warning("%s: %s", whole.path, warning)

    def side(split: CocoSplit, rows: np.ndarray) -> SplitData:
        part = whole.restricted_to(whole.images.ids[rows].tolist())
        listed_here = split == "train"  # an indices file lists training images
        return _selected(
            config, paths._replace(split=split), part, used_names=whole.used_names, may_be_listed=listed_here
        )

    return side("train", ~held_out.is_val) if training else None, side("val", held_out.is_val)


def _read_whole(config: Config, paths: SplitPaths) -> tuple[CocoAnnotations, SplitPaths]:
    """Read the annotations of all images of a split, and find the folder of the images."""
    if paths.download:
        download_annotations(paths.split, config.download)
    if paths.images is None:
        whole, folder = CocoAnnotations.read_found(paths.source, config.data.data)
        paths = paths._replace(images=folder)
    else:
        whole = CocoAnnotations.read(paths.source, images=None if paths.download else paths.images)
    if paths.split == "train":
        whole.require_boxes()
    return whole, paths


def _selected(
    config: Config,
    paths: SplitPaths,
    whole: CocoAnnotations,
    *,
    used_names: frozenset[str],
    may_be_listed: bool = True,
) -> SplitData:
    """Return a split, or the subset of it that the settings choose."""
    settings = config.subset
    part, subset, remedy = whole, None, ("--coco_mini_size", "--coco_mini_seed")
    if settings.debug:
        remedy = ("--debug_samples", "--seed")
        part, subset = cut_down(config, whole, paths.split)
    elif settings.use_coco_mini:
        part, subset = _coco_mini(settings, whole, paths.split, may_be_listed=may_be_listed)
    if paths.split == "train" and not len(part.training.labels):
        raise InputError(
            f"{whole.path}: none of the {len(part.images)} selected images has a box to train on; give a larger "
            f"{remedy[0]}, or another {remedy[1]}"
        )
    return _with_files(paths, part, subset)._replace(used_names=used_names)


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
        subset = Subset.read(path)
        for name, held, wanted in (("coco_mini_size", subset.size, size), ("coco_mini_seed", subset.seed, seed)):
            if held != wanted:
                raise InputError(f"{path}: holds a subset of {name} {held}, but --{name} is {wanted}; leave that out")
        subset.require_source(whole, path=path, split=split)
        chosen = subset.image_ids
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
