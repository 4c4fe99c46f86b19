"""Images and annotations of a run: read, checked, cut down to a subset, and downloaded on request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from dino_detector.config import Config, DownloadConfig, SubsetConfig
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.subsets import Subset, class_balance, select
from dino_detector.data.coco.unlabelled import find_image_info, list_pictures, read_image_info
from dino_detector.download import Split, download_annotations, download_images, download_split
from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories, check_categories, require_num_classes
from dino_detector.training.split_paths import SplitPaths, find_paths

log = logging.getLogger(__name__)

MINI_TRAIN = {"1k": 1_000, "5k": 5_000, "10k": 10_000}
MINI_VAL = {"1k": 1_000, "5k": 5_000}
"""Number of validation images of a COCO mini, or all if the split has fewer; 10k uses all."""


class SplitData(NamedTuple):
    """Images and annotations of one split.

    Attributes:
        folder: folder of the images, perhaps still to be downloaded.
        annotations: annotations of these images alone; test images have no boxes.
        split: ``train``, ``val`` or ``test``.
        download: what to download: all images of the split, or the images of the subset; None if they are there.
        subset: the subset that was selected; None for the whole split.
        unreadable: one line for each file in a folder of test images that is not an image.
    """

    folder: Path
    annotations: CocoAnnotations
    split: Split
    download: Literal["all", "subset"] | None = None
    subset: Subset | None = None
    unreadable: tuple[str, ...] = ()


class RunData(NamedTuple):
    """The splits of a run; None for a split that the run does not use.

    Attributes:
        train: training images.
        val: images to evaluate on; in a debug run the same object as ``train``.
        test: images without annotations, to detect objects in.
    """

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
            InputError: The download failed, or an image is missing after it.
        """
        for data in self.splits:
            if data.download is None:
                continue
            if data.download == "all":
                download_split(data.split, config)
            else:
                download_images(data.split, data.annotations.images.file_names, config)
            data.annotations.with_files(data.folder)

    def check_classes(self, known: Categories, *, source: Path, num_classes: int | None) -> None:
        """Raise `InputError` if the classes of the validation images or their number do not fit.

        Args:
            known: classes of the training images or of the checkpoint.
            source: file of the known classes, for messages.
            num_classes: expected number of classes; None accepts any.
        """
        if self.val is not None:
            val = self.val.annotations
            check_categories(val.categories, known=known, source=val.path, known_source=source)
        require_num_classes(num_classes, known, source=source)

    def write_subsets(self, folder: Path) -> None:
        """Write the files that reproduce the subsets."""
        for subset in self.subsets:
            path = subset.write(folder)
            log.info("the images of %s are listed in %s", subset.name, path)


def read_run_data(config: Config, *, training: bool, categories: Categories | None = None) -> RunData:
    """Read and check the data of a run, and download annotations on request; `RunData.fetch` downloads images.

    Args:
        config: settings.
        training: whether the run trains.
        categories: classes of the evaluated detector; None uses the classes of the training images.

    Raises:
        InputError: The data is wrong, as far as that shows before an image is decoded or downloaded.
    """
    paths = find_paths(config, training=training)
    train = None if paths.train is None else _read_train(config, paths.train)
    val = None if paths.val is None else _read_val(config, paths.val, is_only_split=train is None)
    if config.subset.debug:
        val = train
        if config.data.val_images or config.data.download_val_data:
            log.info("a debug run is evaluated on its training images; the validation images are not used")
    test = None
    if paths.test is not None:
        test = _read_test(config, paths.test, categories or train.annotations.categories)
    return RunData(train, val, test)


def _read_train(config: Config, paths: SplitPaths) -> SplitData:
    settings = config.subset
    whole = _read_annotations("train", paths, config.download)
    part, subset = whole, None
    if settings.debug:
        size, seed = settings.debug_samples, config.training.seed
        chosen = _select(whole, size, seed, flag="debug_samples")
        part, subset = _cut(whole, chosen, "train", "debug", str(size), seed)
    elif settings.use_coco_mini:
        part, subset = _coco_mini(settings, whole, "train", MINI_TRAIN[settings.coco_mini_size])
    whole.require_boxes()
    if not len(part.training.labels):
        remedy = ("--debug_samples", "--seed") if settings.debug else ("--coco_mini_size", "--coco_mini_seed")
        raise InputError(
            f"{whole.path}: none of the {len(part.images)} selected images has a box to train on; give a larger "
            f"{remedy[0]}, or another {remedy[1]}"
        )
    return _with_files("train", paths, part, subset)


def _read_val(config: Config, paths: SplitPaths, *, is_only_split: bool) -> SplitData:
    """Read the validation split; an indices file lists its images only if the run has no training split."""
    settings = config.subset
    whole = _read_annotations("val", paths, config.download)
    if not settings.use_coco_mini:
        return _with_files("val", paths, whole, None)
    available = len(whole.images)
    size = min(MINI_VAL.get(settings.coco_mini_size, available), available)
    return _with_files("val", paths, *_coco_mini(settings, whole, "val", size, may_be_listed=is_only_split))


def _read_test(config: Config, paths: SplitPaths, categories: Categories) -> SplitData:
    if paths.download:
        download_annotations("test", config.download)
    info = find_image_info(paths.images)
    unreadable: tuple[str, ...] = ()
    if info is None:
        images, unreadable = list_pictures(paths.images, categories)
    else:
        images = read_image_info(info, categories)
    subset = None
    if config.subset.test_mini:
        size, seed = config.subset.test_mini_size, config.training.seed
        chosen = _select(images, size, seed, flag="test_mini_size")
        subset = Subset(f"test_mini_{size}_seed{seed}", "test", str(size), seed, chosen)
        images = images.restricted_to(chosen)
    return _with_files("test", paths, images, subset)._replace(unreadable=unreadable)


def _read_annotations(split: Split, paths: SplitPaths, config: DownloadConfig) -> CocoAnnotations:
    if paths.download:
        download_annotations(split, config)
    return CocoAnnotations.read(paths.annotations, images=None if paths.download else paths.images)


def _coco_mini(
    settings: SubsetConfig, whole: CocoAnnotations, split: Split, count: int, *, may_be_listed: bool = True
) -> tuple[CocoAnnotations, Subset]:
    """Return the COCO mini of a split: the images of ``coco_mini_indices_file``, or ``count`` images by the seed."""
    size, seed, path = settings.coco_mini_size, settings.coco_mini_seed, settings.coco_mini_indices_file
    if path is None or not may_be_listed:
        chosen = _select(whole, count, seed, flag="coco_mini_size")
        return _cut(whole, chosen, split, "coco_mini", size, seed)
    listed = Subset.read(path)
    for name, held, wanted in (("coco_mini_size", listed.size, size), ("coco_mini_seed", listed.seed, seed)):
        if held != wanted:
            raise InputError(f"{path}: holds a subset of {name} {held}, but --{name} is {wanted}; leave that out")
    listed.require_source(whole, path=path, split=split)
    return _cut(whole, listed.image_ids, split, "coco_mini", size, seed)


def _cut(
    whole: CocoAnnotations, chosen: Sequence[int], split: Split, kind: str, size: str, seed: int
) -> tuple[CocoAnnotations, Subset]:
    """Return the chosen images as annotations and as a subset, and log how balanced its classes are."""
    name = f"{kind}_{size}_seed{seed}"
    part = whole.restricted_to(chosen)
    counts = f"{len(part.images):,} of the {len(whole.images):,}"
    log.info("%s: %s images of %s; %s", name, counts, whole.path.name, class_balance(whole, part))
    return part, Subset.of(part, whole, name=name, split=split, size=size, seed=seed)


def _with_files(split: Split, paths: SplitPaths, annotations: CocoAnnotations, subset: Subset | None) -> SplitData:
    """Return a split whose image files have been found, or are to be downloaded."""
    if paths.download:
        return SplitData(paths.images, annotations, split, "all" if subset is None else "subset", subset)
    try:
        annotations = annotations.with_files(paths.images)
    except InputError as error:
        if paths.download_flag is None:
            raise
        raise InputError(f"{error}; or fetch what is missing with {paths.download_flag}") from error
    return SplitData(paths.images, annotations, split, None, subset)


def _select(whole: CocoAnnotations, size: int, seed: int, *, flag: str) -> tuple[int, ...]:
    """Select image ids by the seed; raise `InputError` if there are too few images."""
    available = len(whole.images)
    if size > available:
        remedy = "train without --use_coco_mini" if flag == "coco_mini_size" else f"give --{flag} {available} or less"
        raise InputError(f"{whole.path}: has {available:,} images, fewer than the {size:,} of --{flag}; {remedy}")
    return select(whole.images.ids.tolist(), size=size, seed=seed)
