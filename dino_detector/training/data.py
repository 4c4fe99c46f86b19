"""The data of a run: annotations that have been checked, and loaders for this process's share."""

from __future__ import annotations

import math
from pathlib import Path

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from dino_detector.config import Config
from dino_detector.data.categories import Categories
from dino_detector.data.coco import CocoAnnotations
from dino_detector.data.dataset import CocoDetection
from dino_detector.data.loading import build_evaluation_loader, build_training_loader
from dino_detector.data.transforms import Augmentation, evaluation_transforms, training_transforms
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import CheckpointHeader


class DetectionData(LightningDataModule):
    """Training and validation images.

    Args:
        config: settings.
        train_annotations: checked annotations of the training images; None where nothing is trained.
        val_annotations: checked annotations of the validation images.
    """

    def __init__(
        self, *, config: Config, train_annotations: CocoAnnotations | None, val_annotations: CocoAnnotations
    ) -> None:
        super().__init__()
        self.config = config
        self.train_annotations = train_annotations
        self.val_annotations = val_annotations
        self.header: CheckpointHeader | None = None
        """of the detector that reads the batches; to be set before a loader is asked for"""

    @classmethod
    def read(cls, config: Config, *, training: bool) -> DetectionData:
        """Read and check annotations and image files.

        Raises:
            InputError: for anything wrong with them that can be known before an image is decoded.
        """
        paths = config.data
        needed = ["train_images", "train_annotations"] * training + ["val_images", "val_annotations"]
        missing = [f"--{name}" for name in needed if getattr(paths, name) is None]
        if missing:
            raise InputError(f"no data: {' and '.join(missing)} must be given")
        train = None
        val = _read(paths.val_annotations, paths.val_images)
        if training:
            train = _read(paths.train_annotations, paths.train_images)
            train.require_boxes()
            check_categories(val.categories, known=train.categories, source=val.path, known_source=train.path)
        return cls(config=config, train_annotations=train, val_annotations=val)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of each process in an epoch."""
        images = math.ceil(len(self.train_annotations.images) / self.trainer.world_size)
        return math.ceil(images / self.config.training.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented batches of this process; unreadable images are replaced and reported."""
        data, training = self.config.data, self.config.training
        size = {"image_size": data.image_size, "resize_mode": data.resize_mode}
        transforms = (
            training_transforms(**size, augmentation=Augmentation())
            if data.augmentation
            else evaluation_transforms(**size)
        )
        dataset = CocoDetection(
            images_dir=data.train_images,
            annotations=self.train_annotations,
            transforms=transforms,
            seed=training.seed,
            on_bad_image="skip",
        )
        return build_training_loader(dataset=dataset, seed=training.seed, **self._loading())

    def val_dataloader(self) -> DataLoader:
        """This process's share of the validation images, as they are."""
        return build_evaluation_loader(dataset=self.val_dataset(), **self._loading())

    def val_dataset(self) -> CocoDetection:
        """All validation images; one that can't be read raises."""
        data = self.config.data
        return CocoDetection(
            images_dir=data.val_images,
            annotations=self.val_annotations,
            transforms=evaluation_transforms(image_size=data.image_size, resize_mode=data.resize_mode),
            seed=0,
            on_bad_image="raise",
        )

    def _loading(self) -> dict:
        return {
            "batch_size": self.config.training.batch_size,
            "num_workers": self.config.data.num_workers,
            "mean": self.header.mean,
            "std": self.header.std,
            "num_replicas": self.trainer.world_size,
            "rank": self.trainer.global_rank,
            "pin_memory": self.trainer.strategy.root_device.type == "cuda",
        }


def check_categories(categories: Categories, *, known: Categories, source: Path, known_source: Path) -> None:
    """Raise `InputError` unless every category is known by the same id and name."""
    names = dict(zip(known.ids, known.names, strict=True))
    for category_id, name in zip(categories.ids, categories.names, strict=True):
        if names.get(category_id) != name:
            has = f"calls it {names[category_id]!r}" if category_id in names else "has no such id"
            raise InputError(
                f"{source}: category {category_id} is {name!r}, but {known_source} {has}; "
                "both must come from one set of categories"
            )


def _read(annotations: Path, images: Path) -> CocoAnnotations:
    checked = CocoAnnotations.read(annotations)
    checked.check_files(images)
    return checked
