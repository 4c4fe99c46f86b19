"""Numbers and histograms of a run: losses, class accuracy, optimizer, speed, memory, metrics and weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from dino_detector.losses import LossTerms
from dino_detector.structures.categories import Categories
from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets
from dino_detector.training.logging.loggers import log_values
from dino_detector.training.memory import memory_now
from dino_detector.training.pace import Pace, is_due


class ScalarLog(Callback):
    """Log numbers of training after the first step and every ``frequency`` steps, and numbers of every evaluation.

    ``step`` counts finished optimizer steps, as in the metrics files. Losses are weighted: components add up to the
    loss, and layers to their component. A loss is the mean of a step over its accumulated batches, on the main process.
    The callback reads nothing from the device between two logged steps. With ``layers`` it logs the losses of each
    decoder layer too.
    """

    def __init__(self, *, frequency: int, layers: bool, pace: Pace) -> None:
        self.frequency = frequency
        self.layers = layers
        self.pace = pace

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting; a resumed run may start in the middle of an epoch."""
        self._step = trainer.global_step
        self._class_counts: Tensor | int = 0
        self._begin_step()
        self._begin_window(trainer)
        self._ended = self.pace.now()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock: evaluation and checkpoints are not part of a step."""
        self._ended = self.pace.now()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep the gradient norm before clipping, and the rates before the schedule steps, if the step is due."""
        if not (self._is_due(trainer.global_step + 1) and trainer.is_global_zero):
            return
        groups = optimizer.param_groups
        gradients = [each.grad for group in groups for each in group["params"] if each.grad is not None]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._optimizer = {
            "optimizer/gradient_norm": torch.nn.utils.get_total_norm(gradients).item(),
            "optimizer/loss_scale": 1.0 if scaler is None else scaler.get_scale(),
            **{f"optimizer/learning_rate/{group['name']}": group["lr"] for group in groups},
            **{f"optimizer/weight_decay/{group['name']}": group["weight_decay"] for group in groups},
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch to the sums, and log a step that is due."""
        now = self.pace.now()
        self._seconds += now - self._ended
        self._images += len(batch.image_ids) * trainer.world_size
        for name, value in (outputs["terms"]._asdict() | outputs["auxiliary"]).items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._batches += 1
        self._class_counts += class_counts(outputs["logits"], batch.targets, outputs["matches"])
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if self._is_due(self._step) and trainer.is_global_zero:
                means = {name: value.cpu() / self._batches for name, value in self._sums.items()}
                terms = LossTerms(*(means.pop(name) for name in LossTerms._fields))
                values = _losses("train", terms.weighted(pl_module.settings.losses), layers=self.layers)
                auxiliary = {f"train/loss_{name}": value.item() for name, value in means.items()}
                values["train/loss"] += sum(auxiliary.values())
                waited = trainer.train_dataloader.seconds_waited - self._waited_before
                values["speed/images_per_second"] = self._images / self._seconds
                values["speed/waiting_for_data"] = min(1.0, waited / self._seconds)
                values |= auxiliary | self._optimizer | memory_now(pl_module.device)
                log_values(trainer.loggers, values, self._step)
                self._begin_window(trainer)
            self._begin_step()
        self._ended = self.pace.now()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the class accuracy of the epoch's matched predictions."""
        counts = trainer.strategy.reduce(self._class_counts, reduce_op="sum")
        log_values(trainer.loggers, class_shares("train", counts, pl_module.detector.categories), trainer.global_step)
        self._class_counts = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start new sums."""
        # The validation file may lack classes of the training file, and then has other labels than the network.
        ids = trainer.datamodule.run_data.val.annotations.categories.ids
        labels = [pl_module.detector.categories.label(category_id) for category_id in ids]
        self._labels = torch.tensor(labels, dtype=torch.int64, device=pl_module.device)
        self._val_class_counts: Tensor | int = 0
        self._val_sums: Tensor | float = 0.0  # [3 * L + 1], the three terms by layer, and the number of boxes

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Match the predictions of a batch as in training, and add it to the sums."""
        targets = batch.targets._replace(labels=self._labels[batch.targets.labels])
        matches = pl_module.criterion.matcher(outputs.logits, outputs.boxes_cxcywh, targets)
        boxes = outputs.boxes_cxcywh[matches.predictions]
        terms = pl_module.criterion.loss_sums(outputs.logits, boxes, targets, matches)
        self._val_sums = self._val_sums + torch.cat([*terms, targets.valid.sum().float().view(1)])
        self._val_class_counts += class_counts(outputs.logits, targets, matches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log metrics, losses and class accuracy of the validation images."""
        metrics, categories = pl_module.metrics, pl_module.detector.categories
        values = {f"val/{name}": value for name, value in metrics.numbers.items()} | {"val/AR": metrics.AR100}
        names = dict(zip(categories.ids, categories.shown, strict=True))
        values |= {f"val_AP_per_class/{names[row.category_id]}": row.AP for row in metrics.per_class}
        values = {tag: value for tag, value in values.items() if value != -1}
        sums = trainer.strategy.reduce(self._val_sums, reduce_op="sum")
        terms = LossTerms(*(sums[:-1] / sums[-1].clamp(min=1)).view(3, -1))  # per box, whatever the batch size
        values |= _losses("val", terms.weighted(pl_module.settings.losses), layers=self.layers)
        counts = trainer.strategy.reduce(self._val_class_counts, reduce_op="sum")
        log_values(trainer.loggers, values | class_shares("val", counts, categories), trainer.global_step)

    def _is_due(self, step: int) -> bool:
        return step == 1 or step % self.frequency == 0

    def _begin_step(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._batches = 0

    def _begin_window(self, trainer: Trainer) -> None:
        self._images = 0
        self._seconds = 0.0
        self._waited_before = trainer.train_dataloader.seconds_waited


class HistogramLog(Callback):
    """Log every trained weight and its unclipped gradient at the last step of every evaluated epoch, to TensorBoard."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log ``parameters/NAME`` and ``gradients/NAME``, but no tensor with a value that is not finite."""
        due = is_due(trainer, trainer.current_epoch + 1)
        if not (due and trainer.is_last_batch and trainer.is_global_zero):
            return
        step = trainer.global_step + 1  # the step that begins
        trained = [each for each in pl_module.detector.named_parameters() if each[1].grad is not None]
        tensors = {f"parameters/{name}": parameter.detach() for name, parameter in trained}
        tensors |= {f"gradients/{name}": parameter.grad for name, parameter in trained}
        for writer in (each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)):
            for tag, values in tensors.items():
                if values.isfinite().all():
                    writer.add_histogram(tag, values, step, bins=64)


def class_counts(logits: Tensor, targets: Targets, matches: MatchedIndices) -> Tensor:
    """Return ``[3, C]`` int64: the boxes, the predictions, and the correct predictions of each class.

    Only matched predictions of the last of the L decoder layers count; ``logits`` are ``[L, B, Q, C]``. The class of a
    prediction is the class with its highest score. Matching has already assigned the prediction to a box, so the counts
    measure classification and not localization.
    """
    layers, num_classes = len(logits), logits.shape[-1]
    pairs = len(matches.layer) // layers  # the pairs of the last of equal layers come last
    image, query, target = (index[len(matches.layer) - pairs :] for index in matches[1:])
    wanted = F.one_hot(targets.labels[image, target], num_classes)  # [M, C]
    predicted = F.one_hot(logits[-1, image, query].argmax(-1), num_classes)  # [M, C]
    return torch.stack([wanted.sum(0), predicted.sum(0), (wanted * predicted).sum(0)])


def class_shares(stage: str, counts: Tensor, categories: Categories) -> dict[str, float]:
    """Return accuracy and precision by class from a sum of `class_counts`; leave out what would divide by zero.

    Accuracy is the fraction of a class's boxes with a correct prediction, precision the fraction of its predictions
    that are correct. ``stage`` is ``train`` or ``val``.
    """
    boxes, predictions, correct = counts.tolist()
    return {
        f"{stage}_{kind}_per_class/{name}": right / count
        for kind, totals in (("accuracy", boxes), ("precision", predictions))
        for name, count, right in zip(categories.shown, totals, correct, strict=True)
        if count
    }


def _losses(stage: str, terms: LossTerms, *, layers: bool) -> dict[str, float]:
    """Return the loss, its components, and the losses of the decoder layers, which count from 1."""
    values = {f"{stage}/loss": sum(terms).sum().item()}
    for name, per_layer in terms._asdict().items():
        values[f"{stage}/loss_{name}"] = per_layer.sum().item()
        if layers:
            values |= {f"{stage}/loss_{name}/layer_{n}": value for n, value in enumerate(per_layer.tolist(), start=1)}
    return values
