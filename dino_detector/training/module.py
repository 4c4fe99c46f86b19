"""The LightningModule: wiring of detector, criterion, optimizer and evaluation."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_detector.config import MAX_DETECTIONS
from dino_detector.data.loading import Batch
from dino_detector.inference.detector import Detector
from dino_detector.losses import LossTerms, SetCriterion
from dino_detector.models.checkpoint import HEADER
from dino_detector.models.cpu.heap import keep_freed_memory
from dino_detector.structures.predictions import DecoderOutput
from dino_detector.structures.targets import Targets
from dino_detector.training.caching import TrunkCaching
from dino_detector.training.optimization import build_optimizer
from dino_detector.training.schedule import build_schedule
from dino_detector.validate import CocoMetrics, coco_metrics, coco_results

log = logging.getLogger(__name__)

PLANNED_EPOCHS = "planned_epochs"
"""entry of a checkpoint"""


class DetectorModule(LightningModule):
    """One step of training and of evaluation.

    Needs a `DetectionData` as the trainer's datamodule, which holds the ground truth that evaluation compares with.

    Args:
        detector: the network.
        criterion: matching and losses.
        planned_epochs: for how many the first of the runs was meant that this one resumes; its warm-up stays as it was.
        caching: the trunk cache, where the run has one.
        max_detections: detections of an image and class that the metrics count.

    Attributes:
        metrics: the latest evaluation, on every process; None before the first.
        results: the detections behind it, of all images, as COCO results.
        test_results: detections in the test images, likewise.
        skipped: images that could not be read in training or testing, with the reason.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        criterion: SetCriterion,
        planned_epochs: int | None = None,
        caching: TrunkCaching | None = None,
        max_detections: int = MAX_DETECTIONS,
    ) -> None:
        super().__init__()
        self.planned_epochs = planned_epochs
        self.detector = detector
        self.criterion = criterion
        self.caching = caching
        self.max_detections = max_detections
        self.settings = detector.config
        self.metrics: CocoMetrics | None = None
        self.results: list[dict[str, Any]] = []
        self.test_results: list[dict[str, Any]] = []
        self.skipped: set[str] = set()
        self._by_image: dict[int, list[dict[str, Any]]] = {}
        self._batch_index = 0

    def on_train_start(self) -> None:
        """Begin with the rates of this run's schedule; those that the optimizer brings back may be of a shorter one.

        What fits into memory is known by now; before, a step that does not must leave its memory to a smaller one.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        for schedule in (config.scheduler for config in self.trainer.lr_scheduler_configs):
            groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, peak, factor in groups:
                group["lr"] = peak * factor(schedule.last_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by the batch's number, so that a resumed run draws what an uninterrupted one would."""
        self._batch_index = batch_idx
        epoch_seed = self.settings.training.seed + 1_000_003 * self.current_epoch
        torch.manual_seed((epoch_seed * 1_000_003 + batch_idx) * self.trainer.world_size + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Loss of a batch; without gradients, for callbacks, its parts, the decoder's ``matches`` and ``logits``."""
        for reason in batch.skipped:
            if reason not in self.skipped:
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
        wanted = self.trainer.accumulate_grad_batches  # the trainer has divided the loss by it
        first = self._batch_index // wanted * wanted
        there = min(wanted, int(self.trainer.num_training_batches) - first)
        super().backward(loss * (wanted / there), *args, **kwargs)

    def validation_step(self, batch: Batch, batch_idx: int) -> DecoderOutput:
        """Collect the detections of a batch; returns all predictions, for callbacks."""
        return self._detect(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the detections of a batch of test images; one that can't be read has none."""
        self.skipped.update(batch.skipped)
        self._detect(batch)

    def on_validation_epoch_end(self) -> None:
        """Gather the detections of all processes, each image once, and compute the COCO metrics of all images."""
        by_image = self._gather()
        annotations = self.trainer.datamodule.sources.val.annotations
        self.results = [
            result
            for result in _in_order(by_image)
            if result["category_id"] in annotations.categories.ids  # the file may lack classes of the training data
        ]
        self.metrics = coco_metrics(
            annotations.ground_truth, self.results, image_ids=by_image, max_detections=self.max_detections
        )
        if self.metrics.AP != -1:  # there are boxes to find
            self.log("val/AP", self.metrics.AP, prog_bar=True, logger=False, rank_zero_only=True)

    def on_predict_epoch_end(self) -> None:
        """Gather the detections of all processes, and which images they could not read."""
        self.test_results = _in_order(self._gather())
        self.skipped = set().union(*self._of_all(self.skipped))

    def on_train_end(self) -> None:
        """Gather which images could not be read."""
        self.skipped = set().union(*self._of_all(self.skipped))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW whose rates follow their schedule over all steps of the run."""
        # The trainer's own estimate would open the loader before the trainer knows where a resumed run goes on.
        steps = math.ceil(self.trainer.datamodule.batches_per_epoch / self.trainer.accumulate_grad_batches)
        optimizer = build_optimizer(self.detector, self.settings)
        epochs = self.trainer.max_epochs
        warming = min(epochs, self.planned_epochs or epochs)
        schedule = build_schedule(
            optimizer, self.settings.training, total_steps=epochs * steps, warmup_of=warming * steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients; Lightning's own way refuses a fused optimizer under autocast."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.detector.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the header that tells what the weights are, and for how many epochs the warm-up was meant."""
        checkpoint[HEADER] = self.detector.header.to_dict()
        checkpoint[PLANNED_EPOCHS] = self.planned_epochs or self.trainer.max_epochs

    def _detect(self, batch: Batch) -> DecoderOutput:
        output = self._predict(batch)
        found = self.detector.detections(output, batch.original_sizes)
        for image_id, detections in zip(batch.image_ids, found, strict=True):
            self._by_image[image_id] = coco_results(image_id, detections, self.detector.categories)
        return output

    def _predict(self, batch: Batch, targets: Targets | None = None) -> DecoderOutput:
        if self.caching is None:
            return self.detector(batch.pixel_values, targets)
        return self.detector.decode(self.caching.tokens(batch), targets)

    def _gather(self) -> dict[int, list[dict[str, Any]]]:
        """Detections by image of all processes, and an empty table for the next pass."""
        by_image, self._by_image = self._by_image, {}
        return {image_id: results for share in self._of_all(by_image) for image_id, results in share.items()}

    def _of_all(self, value: Any) -> list[Any]:
        """The value of every process, on every process."""
        values = [value] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values


def _in_order(by_image: dict[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [result for image_id in sorted(by_image) for result in by_image[image_id]]
