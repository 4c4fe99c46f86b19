"""Evaluation in tiles: loaders of images in their own sizes, and steps that cut each image into tiles."""

from __future__ import annotations

from torch.utils.data import DataLoader

from dino_detector.config import Config
from dino_detector.data.dataset import CocoDetection, FullSizeImages
from dino_detector.data.loading import FullSizeBatch, build_full_size_loader
from dino_detector.inference.detector import Detector
from dino_detector.losses import SetCriterion
from dino_detector.structures.detections import coco_results
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.module import DetectorModule


class FullSizeData(DetectionData):
    """Data loaders of validation and test images in their own sizes, one image at a time."""

    def _evaluation_view(self) -> FullSizeImages:
        return FullSizeImages()

    def _evaluation_loader(self, dataset: CocoDetection) -> DataLoader:
        return build_full_size_loader(
            dataset=dataset,
            num_workers=self.config.data.num_workers,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )


class TiledModule(DetectorModule):
    """Evaluation steps on `FullSizeData`; the module does not train.

    Args:
        detector: network.
        criterion: matching and losses.
        config: settings of the evaluation, with the tiles and the number of tiles in a batch.
    """

    def __init__(self, *, detector: Detector, criterion: SetCriterion, config: Config) -> None:
        super().__init__(detector=detector, criterion=criterion, max_detections=config.evaluation.max_detections)
        self.evaluation = config

    def _detect(self, batch: FullSizeBatch) -> None:
        """Collect the best ``max_detections`` detections of each class in each image."""
        settings = self.evaluation
        found = self.detector.detect_each(batch.images, tiling=settings.tiling, batch_size=settings.training.batch_size)
        for image_id, detections in zip(batch.image_ids, found, strict=True):
            scored = detections.best_of_each_class(self.max_detections)
            self._by_image[image_id] = coco_results(image_id, scored, self.detector.categories)
