"""The images of a run, fetched where that is asked for, checked, and cut down to a subset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from dino_detector.config import Config, DownloadConfig
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.subsets import Subset, class_balance, select
from dino_detector.data.coco.unlabelled import find_image_info, list_pictures, read_image_info
from dino_detector.download import Split, download_annotations, download_images, download_split
from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories, check_categories, require_num_classes
from dino_detector.training.split_paths import Place, Places, find_places

log = logging.getLogger(__name__)

MINI_TRAIN = {"1k": 1_000, "5k": 5_000, "10k": 10_000}
MINI_VAL = {"1k": 1_000, "5k": 5_000}
"""validation images of a COCO mini, where there are that many; of 10k all"""


class ImageSet(NamedTuple):
    """Images of a split and what is known of them; for test images without boxes.

    Attributes:
        folder: where the images are, or will be once they are fetched.
        annotations: of these images alone.
        split: which part of the data they are.
        fetch: how they are to be fetched; None where they are there.
    """

    folder: Path
    annotations: CocoAnnotations
    split: Split
    fetch: Literal["all", "these"] | None


class Sources(NamedTuple):
    """The data of a run; None for a part that it does without.

    Attributes:
        train: images to train on.
        val: images to evaluate on.
        test: images without annotations, to detect in.
        subsets: the subsets that these are, to be written beside the results.
        unreadable: one line for each file among the test images that is no image.
    """

    train: ImageSet | None
    val: ImageSet | None
    test: ImageSet | None
    subsets: tuple[Subset, ...]
    unreadable: tuple[str, ...] = ()

    def fetch(self, config: DownloadConfig) -> None:
        """Fetch what is still to be fetched: of a subset its own images, else the whole split.

        Raises:
            InputError: COCO can't be had, or a file is missing all the same.
        """
        val = None if self.val is self.train else self.val  # a debug run has one set for both
        for images in (self.train, val, self.test):
            if images is not None and images.fetch is not None:
                if images.fetch == "all":
                    download_split(images.split, config)
                else:
                    download_images(images.split, images.annotations.images.file_names, config)
                images.annotations.with_files(images.folder)

    def check_classes(self, known: Categories, *, source: Path, num_classes: int | None) -> None:
        """Raise `InputError` where validation knows other classes, or another number of classes was asked for.

        Args:
            known: the classes of the training images or of the checkpoint.
            source: where they are from, for messages.
            num_classes: how many there are to be; None takes any number.
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


def gather(config: Config, *, training: bool, categories: Categories | None = None) -> Sources:
    """What a run needs, read and checked. Images that are to be fetched are not yet, their annotations are.

    Args:
        config: settings.
        training: whether images to train on are needed.
        categories: of the detector that is evaluated; None takes those of the training images.

    Raises:
        InputError: for anything wrong with the data that can be known before an image is decoded or fetched.
    """
    return _Gathering(config, find_places(config, training=training), categories).gather()


class _Gathering:
    def __init__(self, config: Config, places: Places, categories: Categories | None) -> None:
        self.config = config
        self.places = places
        self.categories = categories
        self.subsets: list[Subset] = []
        self.unreadable: tuple[str, ...] = ()

    def gather(self) -> Sources:
        train, val = self.train(), self.val()
        if self.config.subset.debug:
            val = train
            if self.config.data.val_images or self.config.data.download_val_data:
                log.info("a debug run is evaluated on the images that it trains on; validation images are not used")
        test = None
        if self.places.test is not None:
            test = self.test(self.categories or train.annotations.categories)
        return Sources(train, val, test, tuple(self.subsets), self.unreadable)

    def train(self) -> ImageSet | None:
        place = self.places.train
        if place is None:
            return None
        whole = self.read("train", place)
        settings = self.config.subset
        part = whole
        if settings.debug:
            size, seed = settings.debug_samples, self.config.training.seed
            require_size(size, whole, flag="debug_samples")
            part = self.cut(whole, select(ids(whole), size=size, seed=seed), "train", "debug", str(size), seed)
        elif settings.use_coco_mini:
            part = self.mini(whole, "train")
        whole.require_boxes()
        if not len(part.training.labels):
            flag = "--debug_samples" if settings.debug else "--coco_mini_size"
            seed = "--seed" if settings.debug else "--coco_mini_seed"
            raise InputError(
                f"{whole.path}: none of the {len(part.images)} images that were chosen has a box to train on; give a "
                f"larger {flag}, or another {seed}"
            )
        return self.checked("train", place, part, is_subset=settings.debug or settings.use_coco_mini)

    def val(self) -> ImageSet | None:
        place = self.places.val
        if place is None:
            return None
        whole = self.read("val", place)
        is_mini = self.config.subset.use_coco_mini
        return self.checked("val", place, self.mini(whole, "val") if is_mini else whole, is_subset=is_mini)

    def test(self, categories: Categories) -> ImageSet:
        place = self.places.test
        if place.fetch:
            download_annotations("test", self.config.download)
        info = find_image_info(place.images)
        if info is None:
            images, self.unreadable = list_pictures(place.images, categories)
        else:
            images = read_image_info(info, categories)
        settings = self.config.subset
        if settings.test_mini:
            size, seed = settings.test_mini_size, self.config.training.seed
            require_size(size, images, flag="test_mini_size")
            chosen = select(ids(images), size=size, seed=seed)
            self.subsets.append(Subset(f"test_mini_{size}_seed{seed}", "test", str(size), seed, chosen))
            images = images.restricted_to(chosen)
        return self.checked("test", place, images, is_subset=settings.test_mini)

    def read(self, split: Split, place: Place) -> CocoAnnotations:
        if place.fetch:
            download_annotations(split, self.config.download)
        return CocoAnnotations.read(place.annotations, images=None if place.fetch else place.images)

    def mini(self, whole: CocoAnnotations, split: Split) -> CocoAnnotations:
        """The COCO mini of a split; an indices file is of the training images where there are any."""
        settings = self.config.subset
        size, seed = settings.coco_mini_size, settings.coco_mini_seed
        listed = self.given_subset() if split == "train" or self.places.train is None else None
        if listed is not None:
            listed.require_source(whole, path=settings.coco_mini_indices_file, split=split)
            chosen: Sequence[int] = listed.image_ids
        else:
            there = len(whole.images)
            if split == "train":
                require_size(MINI_TRAIN[size], whole, flag="coco_mini_size")
            count = MINI_TRAIN[size] if split == "train" else min(MINI_VAL.get(size, there), there)
            chosen = select(ids(whole), size=count, seed=seed)
        return self.cut(whole, chosen, split, "coco_mini", size, seed)

    def given_subset(self) -> Subset | None:
        """The subset of ``coco_mini_indices_file``, once it is known to be the one that the settings name."""
        path = self.config.subset.coco_mini_indices_file
        if path is None:
            return None
        subset = Subset.read(path)
        for name, held in (("coco_mini_size", subset.size), ("coco_mini_seed", subset.seed)):
            wanted = self.config.flat()[name]
            if held != wanted:
                raise InputError(f"{path}: holds a subset of {name} {held}, but --{name} is {wanted}; leave that out")
        return subset

    def cut(
        self, whole: CocoAnnotations, chosen: Sequence[int], split: Split, kind: str, size: str, seed: int
    ) -> CocoAnnotations:
        """The chosen images alone; remembers the subset and tells of its classes."""
        name = f"{kind}_{size}_seed{seed}"
        part = whole.restricted_to(chosen)
        self.subsets.append(Subset.of(part, whole, name=name, split=split, size=size, seed=seed))
        log.info(
            "%s: %s of the %s images of %s; %s",
            name,
            f"{len(part.images):,}",
            f"{len(whole.images):,}",
            whole.path.name,
            class_balance(whole, part),
        )
        return part

    def checked(self, split: Split, place: Place, annotations: CocoAnnotations, *, is_subset: bool) -> ImageSet:
        if place.fetch:
            return ImageSet(place.images, annotations, split, "these" if is_subset else "all")
        try:
            annotations = annotations.with_files(place.images)
        except InputError as error:
            if place.flag is None:
                raise
            raise InputError(f"{error}; or fetch what is missing with {place.flag}") from error
        return ImageSet(place.images, annotations, split, None)


def ids(annotations: CocoAnnotations) -> list[int]:
    """Ids of the images, in the order of the file."""
    return annotations.images.ids.tolist()


def require_size(size: int, whole: CocoAnnotations, *, flag: str) -> None:
    """Raise `InputError`, naming both numbers, where a subset would be larger than what it is selected from."""
    there = len(whole.images)
    if size > there:
        remedy = "train without --use_coco_mini" if flag == "coco_mini_size" else f"give --{flag} {there} or less"
        raise InputError(f"{whole.path}: has {there:,} images, fewer than the {size:,} of --{flag}; {remedy}")
