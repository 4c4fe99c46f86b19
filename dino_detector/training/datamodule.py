"""Data loaders of a run, for the share of the images that belongs to this process."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from dino_detector.config import Config
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, Sample, SampleKey, WholeImages, full_size_sample
from dino_detector.data.loading import build_evaluation_loader, build_full_size_loader, build_training_loader
from dino_detector.data.sampling import BatchSizes, epoch_length, repeat_factors
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import CheckpointHeader
from dino_detector.training.caching import TrunkCaching
from dino_detector.training.run_data import RunData, SplitData

log = logging.getLogger(__name__)


class DetectionData(LightningDataModule):
    """Data loaders of a run; with tiles, evaluation loads images in their own sizes, one at a time.

    Attributes:
        header: header of the detector that reads the batches; set it before the first loader is built.
        caching: trunk cache, for runs that have one; set it before the first loader is built.
    """

    def __init__(self, *, config: Config, run_data: RunData) -> None:
        super().__init__()
        self.config = config
        self.run_data = run_data
        self.header: CheckpointHeader | None = None
        self.caching: TrunkCaching | None = None
        self._no_augment_from = config.augmentation.no_augment_from(config.training.epochs)

    def state_dict(self) -> dict[str, int]:
        """Return the counts by which `read_start` recognizes the data of a resumed run."""
        images = len(self.run_data.train.annotations.images)
        return {"train_images": images, "images_per_epoch": self.images_per_epoch}

    @property
    def images_per_epoch(self) -> int:
        """Number of training images that all processes load in an epoch, repeats included."""
        return epoch_length(self._repeat_factors)

    @property
    def max_repeats(self) -> np.ndarray:
        """Largest number of times that each training image comes in an epoch, ``[I]`` int64."""
        return np.ceil(self._repeat_factors).astype(np.int64)

    @property
    def batches_per_epoch(self) -> int:
        """Number of training batches of each process in an epoch."""
        images = math.ceil(self.images_per_epoch / self.trainer.world_size)
        return math.ceil(images / self.config.training.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Return a loader of shuffled, augmented batches; it replaces and reports unreadable images."""
        image_size, seed = self.config.data.image_size, self.config.training.seed
        sizes = self.config.augmentation.input_sizes(image_size, self.header.architecture["patch_size"])
        return build_training_loader(
            dataset=self.train_dataset(),
            factors=self._repeat_factors,
            sizes=BatchSizes(sizes, plain=image_size, no_augment_from=self._no_augment_from, seed=seed),
            seed=seed,
            **self._loader_settings(),
        )

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return a loader of the validation images; an empty list for a run without them."""
        return [] if self.run_data.val is None else self._evaluation_loader(self.val_dataset())

    def predict_dataloader(self) -> DataLoader:
        """Return a loader of the test images; the next readable image takes the place of an unreadable one."""
        test = CocoDetection(self._images(self.run_data.test), view=self._evaluation_view(), on_bad_image="skip")
        return self._evaluation_loader(test)

    def train_dataset(self) -> CocoDetection:
        """Return all training images, augmented; the data set replaces unreadable images."""
        augmentation, resize_mode = self.config.augmentation, self.config.data.resize_mode
        images, view, seed = self._images(self.run_data.train), self._evaluation_view(), self.config.training.seed
        if augmentation.augmentation:
            start = self._no_augment_from
            view = Augmentation(augmentation, resize_mode=resize_mode, seed=seed, no_augment_from=start)
        if self.caching is not None:
            view = self.caching.training_view(view, images)
        return CocoDetection(images, view=view, on_bad_image="skip")

    def val_dataset(self) -> CocoDetection:
        """Return all validation images; the data set raises `InputError` for an unreadable image."""
        view = self._evaluation_view()
        if self.caching is not None:
            view = self.caching.whole_view(view)
        return CocoDetection(self._images(self.run_data.val), view=view, on_bad_image="raise")

    def check_validation_images(self) -> None:
        """Decode every validation image; leave images that can't be read out of the evaluation, and name them.

        Raises:
            InputError: an image can't be read, and the settings do not skip it; or no image can be read.
        """
        dataset, split = self.val_dataset(), self.run_data.val
        if not self.config.data.skip_unreadable:
            return dataset.check_readable()
        if not (skipped := dataset.unreadable()):
            return None
        records, reasons = split.annotations.images, list(skipped.values())
        if len(skipped) == len(records):
            raise InputError(f"{split.folder}: no validation image can be read; the first: {reasons[0]}")
        left_out = f"{len(skipped):,} of {len(records):,} validation images {'is' if len(skipped) == 1 else 'are'}"
        log.warning("%s left out of the evaluation (--skip_unreadable)", left_out)
        for reason in reasons:
            log.warning("not evaluated: %s", reason)
        kept = [record.image_id for index, record in enumerate(records) if index not in skipped]
        self.run_data = self.run_data._replace(val=split._replace(annotations=split.annotations.restricted_to(kept)))

    def _images(self, split: SplitData) -> CocoImages:
        if split.items is not None:
            return split.items
        return CocoImages(split.folder, split.annotations, white_level=self.config.data.white_level)

    @cached_property
    def _repeat_factors(self) -> np.ndarray:
        boxes = self.run_data.train.annotations.training
        return repeat_factors(boxes, threshold=self.config.augmentation.repeat_threshold)

    def _evaluation_view(self) -> Callable[[CocoImages, SampleKey], Sample]:
        if self.config.tiling.tile_size is not None:
            return full_size_sample
        return WholeImages(image_size=self.config.data.image_size, resize_mode=self.config.data.resize_mode)

    def _evaluation_loader(self, dataset: CocoDetection) -> DataLoader:
        settings = self._loader_settings()
        if self.config.tiling.tile_size is None:
            return build_evaluation_loader(dataset=dataset, **settings)
        del settings["batch_size"], settings["mean"], settings["std"], settings["pin_memory"]
        return build_full_size_loader(dataset=dataset, **settings)

    def _loader_settings(self) -> dict:
        return {
            "batch_size": self.config.training.batch_size,
            "num_workers": self.config.data.num_workers,
            "mean": self.header.mean,
            "std": self.header.std,
            "num_replicas": self.trainer.world_size,
            "rank": self.trainer.global_rank,
            "pin_memory": self.trainer.strategy.root_device.type == "cuda",
        }
