"""Loaders for this process's share of the images of a run."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from dino_detector.config import Config
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, FullSizeImages, WholeImages
from dino_detector.data.loading import build_evaluation_loader, build_training_loader
from dino_detector.data.sampling import BatchSizes, epoch_length, repeat_factors
from dino_detector.models.checkpoint import CheckpointHeader
from dino_detector.training.caching import TrunkCaching
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
        self.caching: TrunkCaching | None = None
        """the trunk cache, where the run has one; likewise"""

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps, so that a resumed run has the same epochs."""
        return {
            "train_images": len(self.sources.train.annotations.images),
            "images_per_epoch": self.images_per_epoch,
        }

    @property
    def images_per_epoch(self) -> int:
        """Training images of all processes in an epoch, those counted again that come again."""
        return epoch_length(self._repeat_factors)

    @property
    def most_per_epoch(self) -> np.ndarray:
        """How often each training image comes in an epoch at most, ``[I]`` int64."""
        return np.ceil(self._repeat_factors).astype(np.int64)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of each process in an epoch."""
        images = math.ceil(self.images_per_epoch / self.trainer.world_size)
        return math.ceil(images / self.config.training.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented batches of this process; unreadable images are replaced and reported."""
        data, augmentation, seed = self.config.data, self.config.augmentation, self.config.training.seed
        plain_from = augmentation.plain_from(self.config.training.epochs)
        sizes = augmentation.input_sizes(data.image_size, self.header.architecture["patch_size"])
        return build_training_loader(
            dataset=self.train_dataset(),
            factors=self._repeat_factors,
            sizes=BatchSizes(sizes, plain=data.image_size, plain_from=plain_from, seed=seed),
            seed=seed,
            **self._loading(),
        )

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """This process's share of the validation images, as they are; no loader where there are none."""
        if self.sources.val is None:
            return []
        return self._evaluation_loader(self.val_dataset())

    def predict_dataloader(self) -> DataLoader:
        """This process's share of the test images; one that can't be read is reported and another comes twice."""
        test = CocoDetection(self._images(self.sources.test), view=self._evaluation_view(), on_bad_image="skip")
        return self._evaluation_loader(test)

    def train_dataset(self) -> CocoDetection:
        """All training images, augmented; one that can't be read is replaced."""
        data, augmentation = self.config.data, self.config.augmentation
        images, view = self._images(self.sources.train), self._evaluation_view()
        if augmentation.augmentation:
            plain_from = augmentation.plain_from(self.config.training.epochs)
            seed = self.config.training.seed
            view = Augmentation(augmentation, resize_mode=data.resize_mode, seed=seed, plain_from=plain_from)
        if self.caching is not None:
            view = self.caching.training_view(view, images)
        return CocoDetection(images, view=view, on_bad_image="skip")

    def val_dataset(self) -> CocoDetection:
        """All validation images; one that can't be read raises."""
        view = self._evaluation_view()
        if self.caching is not None:
            view = self.caching.whole_view(view)
        return CocoDetection(self._images(self.sources.val), view=view, on_bad_image="raise")

    def _images(self, images: ImageSet) -> CocoImages:
        return CocoImages(images.folder, images.annotations, white_level=self.config.data.white_level)

    @cached_property
    def _repeat_factors(self) -> np.ndarray:
        boxes = self.sources.train.annotations.training
        return repeat_factors(boxes, threshold=self.config.augmentation.repeat_threshold)

    def _evaluation_loader(self, dataset: CocoDetection) -> DataLoader:
        return build_evaluation_loader(dataset=dataset, **self._loading())

    def _evaluation_view(self) -> WholeImages | FullSizeImages:
        data = self.config.data
        return WholeImages(image_size=data.image_size, resize_mode=data.resize_mode)

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
