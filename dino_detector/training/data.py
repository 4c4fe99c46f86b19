"""Loaders for this process's share of the images of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from dino_detector.config import Config
from dino_detector.data.dataset import CocoDetection
from dino_detector.data.loading import build_evaluation_loader, build_training_loader
from dino_detector.data.transforms import Augmentation, evaluation_transforms, training_transforms
from dino_detector.models.checkpoint import CheckpointHeader
from dino_detector.training.sources import ImageSet, Sources


class DetectionData(LightningDataModule):
    """Loaders of the images of a run.

    Args:
        config: settings.
        sources: images and annotations that have been checked.
    """

    def __init__(self, *, config: Config, sources: Sources) -> None:
        super().__init__()
        self.config = config
        self.sources = sources
        self.header: CheckpointHeader | None = None
        """of the detector that reads the batches; to be set before a loader is asked for"""

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of each process in an epoch."""
        images = math.ceil(len(self.sources.train.annotations.images) / self.trainer.world_size)
        return math.ceil(images / self.config.training.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented batches of this process; unreadable images are replaced and reported."""
        data, seed = self.config.data, self.config.training.seed
        transforms = self._evaluation_transforms()
        if data.augmentation:
            transforms = training_transforms(
                image_size=data.image_size, resize_mode=data.resize_mode, augmentation=Augmentation()
            )
        dataset = _dataset(self.sources.train, transforms, seed=seed, on_bad_image="skip")
        return build_training_loader(dataset=dataset, seed=seed, **self._loading())

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """This process's share of the validation images, as they are; no loader where there are none."""
        if self.sources.val is None:
            return []
        return self._evaluation_loader(self.val_dataset())

    def predict_dataloader(self) -> DataLoader:
        """This process's share of the test images; one that can't be read is reported and another comes twice."""
        return self._evaluation_loader(
            _dataset(self.sources.test, self._evaluation_transforms(), seed=0, on_bad_image="skip")
        )

    def val_dataset(self) -> CocoDetection:
        """All validation images; one that can't be read raises."""
        return _dataset(self.sources.val, self._evaluation_transforms(), seed=0, on_bad_image="raise")

    def _evaluation_loader(self, dataset: CocoDetection) -> DataLoader:
        return build_evaluation_loader(dataset=dataset, **self._loading())

    def _evaluation_transforms(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        data = self.config.data
        return evaluation_transforms(image_size=data.image_size, resize_mode=data.resize_mode)

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


def _dataset(
    images: ImageSet,
    transforms: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    seed: int,
    on_bad_image: Literal["skip", "raise"],
) -> CocoDetection:
    return CocoDetection(
        images_dir=images.folder,
        annotations=images.annotations,
        transforms=transforms,
        seed=seed,
        on_bad_image=on_bad_image,
    )
