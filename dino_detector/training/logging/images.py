"""Images of a run: what the network trains on, and what it finds in validation images."""

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
"""images of a batch, or of the validation images, that are logged"""
LOWEST_SCORE = 0.3
"""of a prediction that is drawn"""


class ImageLog(Callback):
    """Logs training images as the network sees them, augmented, with their boxes, and validation images at evaluation.

    Args:
        frequency: steps from one training batch that is logged to the next; the first is.
    """

    def __init__(self, frequency: int) -> None:
        self.frequency = frequency
        self._logged = -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Write ``train/images`` where a step is due; several batches may make one step."""
        step = trainer.global_step
        if step % self.frequency or step == self._logged or not trainer.is_global_zero:
            return
        self._logged = step
        for position in range(min(MOST_IMAGES, len(batch.pixel_values))):
            picture = training_picture(batch, position, pl_module.detector)
            log_image(trainer.loggers, f"train/images/{position}", np.asarray(picture), step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``val/images``, always the same ones: predictions beside ground truth."""
        if not trainer.is_global_zero:
            return
        val = trainer.datamodule.sources.val
        images = val.annotations.images
        count = min(MOST_IMAGES, len(images))
        for position in range(count):
            record = images[position * len(images) // count]
            picture = validation_picture(val, record, pl_module)
            log_image(trainer.loggers, f"val/images/{position}", np.asarray(picture), trainer.global_step)


def training_picture(batch: Batch, position: int, detector: Any) -> Image.Image:
    """An image of those whose pixels a batch has, with its boxes, in the size of the network's input."""
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
    """Ground truth and the latest predictions of a validation image side by side.

    Args:
        val: the `ImageSet` of validation images.
        record: the `ImageRecord` of one.
        pl_module: the `DetectorModule` that has evaluated them.
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
