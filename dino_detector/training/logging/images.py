"""Images of a run: the augmented training images, and predictions in validation images."""

from __future__ import annotations

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torchvision.ops import box_convert

from dino_detector.analysis.pictures import Comparison, draw_detections, prediction_grid
from dino_detector.data.coco.annotations import ImageRecord
from dino_detector.data.loading import Batch
from dino_detector.data.pictures.reading import read_image
from dino_detector.inference.detector import Detector
from dino_detector.structures.detections import coco_detections, supervision_detections
from dino_detector.training.logging.loggers import log_image
from dino_detector.training.module import DetectorModule
from dino_detector.training.run_data import SplitData

MOST_IMAGES = 4
"""Number of images that are logged from a batch or from the validation images."""
LOWEST_SCORE = 0.3
"""Lowest score of a drawn prediction."""


class ImageLog(Callback):
    """Log training images with their boxes every ``frequency`` steps, and validation images at each evaluation."""

    def __init__(self, frequency: int) -> None:
        self.frequency = frequency

    def on_train_batch_start(self, trainer: Trainer, pl_module: DetectorModule, batch: Batch, batch_idx: int) -> None:
        """Log ``train/images`` for the first batch of a step that is due."""
        step, is_first = trainer.global_step, batch_idx % trainer.accumulate_grad_batches == 0
        if step % self.frequency or not is_first or not trainer.is_global_zero:
            return
        for position in range(min(MOST_IMAGES, len(batch.pixel_values))):
            picture = training_picture(batch, position, pl_module.detector)
            log_image(trainer.loggers, f"train/images/{position}", np.asarray(picture), step)

    def on_validation_end(self, trainer: Trainer, pl_module: DetectorModule) -> None:
        """Log ``val/images``: predictions beside ground truth, in the same images each time."""
        if not trainer.is_global_zero:
            return
        val = trainer.datamodule.run_data.val
        images = val.annotations.images
        count = min(MOST_IMAGES, len(images))
        for position in range(count):
            picture = validation_picture(val, images[position * len(images) // count], pl_module)
            log_image(trainer.loggers, f"val/images/{position}", np.asarray(picture), trainer.global_step)


def training_picture(batch: Batch, position: int, detector: Detector) -> Image.Image:
    """Draw row ``position`` of the batch's ``pixel_values`` with its boxes, in the size of the network's input."""
    pixels = batch.pixel_values[position] * detector.std + detector.mean  # [3, H, W]
    height, width = pixels.shape[1:]
    row = batch.shown[position]
    valid = batch.targets.valid[row]
    boxes_xyxy = box_convert(batch.targets.boxes_cxcywh[row][valid], "cxcywh", "xyxy")
    boxes_xyxy *= boxes_xyxy.new_tensor([width, height, width, height])
    truth = supervision_detections(boxes_xyxy, batch.targets.labels[row][valid], detector.categories)
    image = pixels.round().clamp(0, 255).byte().cpu()
    return draw_detections(image, truth, categories=detector.categories, scores=False)


def validation_picture(val: SplitData, record: ImageRecord, pl_module: DetectorModule) -> Image.Image:
    """Draw ground truth and the latest predictions of a validation image side by side."""
    categories = pl_module.detector.categories
    rows = [row for row in pl_module.results if row["image_id"] == record.image_id]
    boxes = val.annotations.training_boxes(record.image_id)
    size, white_level = (record.height, record.width), pl_module.detector.white_level
    comparison = Comparison(
        image=read_image(val.folder / record.file_name, expected_size=size, white_level=white_level),
        ground_truth=supervision_detections(*boxes, categories=val.annotations.categories),
        predictions=coco_detections(rows, categories),
        caption=record.file_name,
    )
    return prediction_grid([comparison], categories=categories, min_score=LOWEST_SCORE)
