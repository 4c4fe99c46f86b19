"""Event files for TensorBoard: where a run writes them, and the images among them."""

from __future__ import annotations

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from dino_detector.analysis.pictures import draw_detections
from dino_detector.boxes import cxcywh_to_xyxy
from dino_detector.config import Config
from dino_detector.data.loading import Batch
from dino_detector.detections import supervision_detections

FOLDER = "tensorboard"
MOST_IMAGES = 4
"""images of a batch that are logged"""


def build_logger(config: Config) -> TensorBoardLogger:
    """Event files in a folder of the run's own, named by its time and experiment, in ``tensorboard/``."""
    settings = config.logging
    started = time.strftime("%Y%m%d-%H%M%S")
    version = f"{started}_{settings.experiment_name}" if settings.experiment_name else started
    return TensorBoardLogger(settings.log_dir or config.training.output_dir, name=FOLDER, version=version)


class ImageLog(Callback):
    """Logs training images as the network sees them, augmented, with their boxes.

    Args:
        frequency: steps from one batch that is logged to the next; the first is.
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
        for position in range(min(MOST_IMAGES, len(batch.image_ids))):
            trainer.logger.experiment.add_image(f"train/images/{position}", _drawn(batch, position, pl_module), step)


def _drawn(batch: Batch, position: int, pl_module: LightningModule) -> Tensor:
    """An image of a batch with its boxes, uint8 ``[3, H, W]``."""
    detector: Any = pl_module.detector
    pixels = batch.pixel_values[position] * detector.std + detector.mean  # [3, H, W]
    image = pixels.round().clamp(0, 255).byte().cpu()
    height, width = image.shape[1:]
    valid = batch.targets.valid[position]
    boxes_xyxy = cxcywh_to_xyxy(batch.targets.boxes_cxcywh[position][valid])
    truth = supervision_detections(
        boxes_xyxy * boxes_xyxy.new_tensor([width, height, width, height]),
        batch.targets.labels[position][valid],
        detector.categories,
    )
    return pil_to_tensor(draw_detections(image, truth, categories=detector.categories, scores=False).convert("RGB"))
