"""The LightningModule: training and evaluation steps, optimizer and schedule of a detector."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_detector.data.loading import Batch, FullSizeBatch
from dino_detector.inference.detector import Detector
from dino_detector.losses import LossTerms, SetCriterion
from dino_detector.models.checkpoint import HEADER
from dino_detector.models.cpu.heap import keep_freed_memory
from dino_detector.structures.detections import coco_results
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.structures.predictions import DecoderOutput
from dino_detector.structures.targets import Targets
from dino_detector.training.optimization import build_optimizer, build_schedule
from dino_detector.validate import coco_metrics

log = logging.getLogger(__name__)


class DetectorModule(LightningModule):
    """Training and evaluation steps of a detector.

    The trainer's datamodule must be a `DetectionData`, with the ground truth and the trunk cache.

    Attributes:
        metrics: latest metrics, on every process; None before the first evaluation.
        results: detections of the latest evaluation in all images, as COCO results.
        test_results: detections in the test images, likewise.
        skipped: unreadable images of training or testing, with the reason.
    """

    def __init__(self, *, detector: Detector, criterion: SetCriterion) -> None:
        super().__init__()
        self.planned_epochs: int | None = None  # epochs that the warm-up of a resumed run was planned for
        self.detector = detector
        self.criterion = criterion
        self.settings = detector.config
        self.metrics: CocoMetrics | None = None
        self.results: list[dict[str, Any]] = []
        self.test_results: list[dict[str, Any]] = []
        self.skipped: set[str] = set()
        self._by_image: dict[int, list[dict[str, Any]]] = {}
        self._batch_index = 0
        self._evaluated_step = -1

    def on_train_start(self) -> None:
        """Set the learning rates from this run's schedule; a resumed optimizer may hold rates of a shorter run."""
        if self.device.type == "cpu":
            keep_freed_memory()  # after the rehearsal, in which failed steps must return their memory
        for schedule in (config.scheduler for config in self.trainer.lr_scheduler_configs):
            groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, peak, factor in groups:
                group["lr"] = peak * factor(schedule.last_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from epoch, batch and process, so that a resumed run repeats the draws of an unbroken run."""
        self._batch_index = batch_idx
        epoch_seed = self.settings.training.seed + 1_000_003 * self.current_epoch
        torch.manual_seed((epoch_seed * 1_000_003 + batch_idx) * self.trainer.world_size + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the loss of a batch, and without gradients, for callbacks, its terms, the matches and the logits."""
        for reason in set(batch.skipped) - self.skipped:
            log.warning("skipped: %s", reason)
        self.skipped.update(batch.skipped)
        output = self._predict(batch, batch.targets)
        losses = self.criterion(output, batch.targets)
        self.log("train/loss", losses.total, prog_bar=True, logger=False)
        return {
            "loss": losses.total,
            "terms": LossTerms(*(term.detach() for term in losses.terms)),
            "auxiliary": {name: value.detach() for name, value in losses.auxiliary.items()},
            "matches": losses.indices,
            "logits": output.logits.detach(),
        }

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Accumulate the mean gradient of a step's batches; the last step of an epoch may have fewer batches."""
        divisor = self.trainer.accumulate_grad_batches  # the trainer has divided the loss by it
        first = self._batch_index // divisor * divisor
        batches = min(divisor, int(self.trainer.num_training_batches) - first)
        super().backward(loss * (divisor / batches), *args, **kwargs)

    def validation_step(self, batch: Batch | FullSizeBatch, batch_idx: int) -> DecoderOutput | None:
        """Collect the detections of a batch, and return the decoder output for callbacks; None with tiles."""
        return self._detect(batch)

    def predict_step(self, batch: Batch | FullSizeBatch, batch_idx: int) -> None:
        """Collect the detections of a batch of test images; an unreadable image has none."""
        self.skipped.update(batch.skipped)
        self._detect(batch)

    def on_validation_epoch_end(self) -> None:
        """Gather the detections of all processes and compute the COCO metrics; every image counts once."""
        by_image, data = self._gather_detections(), self.trainer.datamodule
        annotations, limit = data.run_data.val.annotations, data.config.evaluation.max_detections
        known = annotations.categories.ids  # the validation file may lack classes of the training file
        self.results = [result for found in by_image.values() for result in found if result["category_id"] in known]
        truth = annotations.ground_truth
        self.metrics = coco_metrics(truth, self.results, image_ids=by_image, max_detections=limit)
        self._evaluated_step = self.trainer.global_step
        if self.metrics.AP != -1:  # there are boxes to find
            self.log("val/AP", self.metrics.AP, prog_bar=True, logger=False, rank_zero_only=True)

    def on_predict_epoch_end(self) -> None:
        """Gather the detections and the unreadable images of all processes."""
        self.test_results = [result for found in self._gather_detections().values() for result in found]
        self.on_train_end()

    def on_train_end(self) -> None:
        """Gather the unreadable images of all processes."""
        self.skipped = set().union(*self._all_gather(self.skipped))

    def configure_optimizers(self) -> dict[str, Any]:
        """Build AdamW and the learning rate schedule over all steps of the run."""
        # Trainer.estimated_stepping_batches would open the loader before a resumed run has restored its position.
        steps = math.ceil(self.trainer.datamodule.batches_per_epoch / self.trainer.accumulate_grad_batches)
        optimizer, epochs = build_optimizer(self.detector, self.settings), self.trainer.max_epochs
        planned = steps * min(epochs, self.planned_epochs or epochs)
        schedule = build_schedule(optimizer, self.settings.training, total_steps=epochs * steps, planned_steps=planned)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients; Lightning's own clipping refuses a fused optimizer with mixed precision."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.detector.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the header of the detector and the number of epochs that the warm-up was planned for."""
        checkpoint[HEADER] = replace(self.detector.header, evaluation=self._evaluation()).to_dict()
        checkpoint["planned_epochs"] = self.planned_epochs or self.trainer.max_epochs

    def _evaluation(self) -> dict[str, Any] | None:
        """Return what the header of a checkpoint says of the metrics; None if they belong to earlier weights."""
        if self.metrics is None or self._evaluated_step != self.trainer.global_step:
            return None
        counts = {"epoch": self.trainer.current_epoch + 1, "images": self.metrics.num_images}
        return counts | {"AP": self.metrics.AP, "AP50": self.metrics.AP50}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the warm-up of the resumed run."""
        self.planned_epochs = checkpoint["planned_epochs"]

    def _detect(self, batch: Batch | FullSizeBatch) -> DecoderOutput | None:
        """Collect the detections of a batch; with tiles, the best ``max_detections`` of each class in each image."""
        config, output = self.trainer.datamodule.config, None
        if config.tiling.tile_size is not None:
            images, size = batch.images, config.training.batch_size
            every = self.detector.detect_each(images, tiling=config.tiling, batch_size=size)
            found = [each.best_of_each_class(config.evaluation.max_detections) for each in every]
        else:
            output = self._predict(batch)
            found = self.detector.detections(output, batch.original_sizes)
        for image_id, detections in zip(batch.image_ids, found, strict=True):
            self._by_image[image_id] = coco_results(image_id, detections, self.detector.categories)
        return output

    def _predict(self, batch: Batch, targets: Targets | None = None) -> DecoderOutput:
        caching = self.trainer.datamodule.caching
        if caching is None:
            return self.detector(batch.pixel_values, targets)
        return self.detector.decode(caching.tokens(batch), targets)

    def _gather_detections(self) -> dict[int, list[dict[str, Any]]]:
        """Return the detections of all processes by ascending image id, and start the next pass without any."""
        by_image, self._by_image = self._by_image, {}
        every = {image_id: results for share in self._all_gather(by_image) for image_id, results in share.items()}
        return dict(sorted(every.items()))

    def _all_gather(self, value: Any) -> list[Any]:
        """Return the values of all processes."""
        values = [value] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values
