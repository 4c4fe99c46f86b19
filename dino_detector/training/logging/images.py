"""Images of a run: the augmented training images, and predictions in validation images."""

from __future__ import annotations

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torchvision.ops import box_convert

from dino_detector.analysis.drawing import Comparison, draw_detections, prediction_grid
from dino_detector.data.loading import Batch
from dino_detector.structures.detections import coco_detections, supervision_detections
from dino_detector.training.logging.loggers import log_image
from dino_detector.training.module import DetectorModule

MOST_IMAGES = 4
"""number of images that are logged from a batch or from the validation images"""


class ImageLog(Callback):
    """Log training images with their boxes every ``frequency`` steps, and validation images at each evaluation."""

    def __init__(self, frequency: int) -> None:
        self.frequency = frequency

    def on_train_batch_start(self, trainer: Trainer, pl_module: DetectorModule, batch: Batch, batch_idx: int) -> None:
        """Log ``train/images`` for the first batch of a step that is due."""
        step, is_first = trainer.global_step, batch_idx % trainer.accumulate_grad_batches == 0
        if step % self.frequency or not is_first or not trainer.is_global_zero:
            return
        detector, targets = pl_module.detector, batch.targets
        shown = batch.pixel_values[:MOST_IMAGES] * detector.std + detector.mean  # [N, 3, H, W]
        for position, pixels in enumerate(shown.round().clamp(0, 255).byte().cpu()):
            height, width = pixels.shape[1:]
            row = batch.shown[position]
            valid = targets.valid[row]
            boxes_xyxy = box_convert(targets.boxes_cxcywh[row][valid], "cxcywh", "xyxy")
            boxes_xyxy *= boxes_xyxy.new_tensor([width, height, width, height])
            truth = supervision_detections(boxes_xyxy, targets.labels[row][valid], detector.categories)
            picture = draw_detections(pixels, truth, categories=detector.categories, scores=False)
            log_image(trainer.loggers, f"train/images/{position}", np.asarray(picture), step)

    def on_validation_end(self, trainer: Trainer, pl_module: DetectorModule) -> None:
        """Log ``val/images``: predictions beside ground truth, in the same images each time."""
        if not trainer.is_global_zero:
            return
        val, detector = trainer.datamodule.run_data.val, pl_module.detector
        images = trainer.datamodule.val_dataset().images
        count = min(MOST_IMAGES, len(images))
        for position in range(count):
            index = position * len(images) // count
            record = images.records[index]
            rows = [row for row in pl_module.results if row["image_id"] == record.image_id]
            boxes = val.annotations.training_boxes(record.image_id)
            comparison = Comparison(
                image=images.snapshot().read(index),
                ground_truth=supervision_detections(*boxes, categories=val.annotations.categories),
                predictions=coco_detections(rows, detector.categories),
                caption=record.file_name,
            )
            picture = prediction_grid([comparison], categories=detector.categories, min_score=0.3)
            log_image(trainer.loggers, f"val/images/{position}", np.asarray(picture), trainer.global_step)
