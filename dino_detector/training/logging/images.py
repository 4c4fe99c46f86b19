"""Images of a run: the augmented training images, and predictions in validation images."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torchvision.ops import box_convert

from dino_detector.analysis.pictures import Comparison, draw_detections, prediction_grid
from dino_detector.data.loading import Batch
from dino_detector.data.pictures.reading import read_image
from dino_detector.structures.detections import coco_detections, supervision_detections
from dino_detector.training.logging.loggers import log_image

MOST_IMAGES = 4
"""Number of images that are logged from a batch or from the validation images."""
LOWEST_SCORE = 0.3
"""Lowest score of a drawn prediction."""


class ImageLog(Callback):
    """Log augmented training images with their boxes, and at each evaluation validation images with predictions.

    Args:
        frequency: number of steps between two logged training batches, the first batch included.
    """

    def __init__(self, frequency: int) -> None:
        self.frequency = frequency
        self._logged = -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Log ``train/images`` for the first batch of a step that is due."""
        step = trainer.global_step
        if step % self.frequency or step == self._logged or not trainer.is_global_zero:
            return
        self._logged = step
        for position in range(min(MOST_IMAGES, len(batch.pixel_values))):
            picture = training_picture(batch, position, pl_module.detector)
            log_image(trainer.loggers, f"train/images/{position}", np.asarray(picture), step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log ``val/images``: predictions beside ground truth, in the same images each time."""
        if not trainer.is_global_zero:
            return
        val = trainer.datamodule.run_data.val
        images = val.annotations.images
        count = min(MOST_IMAGES, len(images))
        for position in range(count):
            record = images[position * len(images) // count]
            picture = validation_picture(val, record, pl_module)
            log_image(trainer.loggers, f"val/images/{position}", np.asarray(picture), trainer.global_step)


def training_picture(batch: Batch, position: int, detector: Any) -> Image.Image:
    """Draw row ``position`` of the batch's ``pixel_values`` with its boxes, in the size of the network's input."""
    pixels = batch.pixel_values[position] * detector.std + detector.mean  # [3, H, W]
    height, width = pixels.shape[1:]
    row = batch.shown[position]
    valid = batch.targets.valid[row]
    boxes_xyxy = box_convert(batch.targets.boxes_cxcywh[row][valid], "cxcywh", "xyxy")
    truth = supervision_detections(
        boxes_xyxy * boxes_xyxy.new_tensor([width, height, width, height]),
        batch.targets.labels[row][valid],
        detector.categories,
    )
    image = pixels.round().clamp(0, 255).byte().cpu()
    return draw_detections(image, truth, categories=detector.categories, scores=False)


def validation_picture(val: Any, record: Any, pl_module: Any) -> Image.Image:
    """Draw ground truth and the latest predictions of a validation image side by side.

    Args:
        val: `SplitData` of the validation images.
        record: `ImageRecord` of the image.
        pl_module: `DetectorModule` with the latest results.
    """
    categories = pl_module.detector.categories
    rows = [row for row in pl_module.results if row["image_id"] == record.image_id]
    predictions = coco_detections(rows, categories)
    truth = supervision_detections(
        *val.annotations.training_boxes(record.image_id), categories=val.annotations.categories
    )
    image = read_image(
        val.folder / record.file_name,
        expected_size=(record.height, record.width),
        white_level=pl_module.detector.white_level,
    )
    comparison = Comparison(image=image, ground_truth=truth, predictions=predictions, caption=record.file_name)
    return prediction_grid([comparison], categories=categories, min_score=LOWEST_SCORE)
