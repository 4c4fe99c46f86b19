"""Numbers of a run: losses, optimizer, speed, memory and metrics."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.optim import Optimizer

from dino_detector.losses import LossTerms
from dino_detector.structures.categories import Categories
from dino_detector.training.logging.loggers import log_values
from dino_detector.training.logging.sums import ClassCounts, LossSums
from dino_detector.training.memory import memory_now


class ScalarLog(Callback):
    """Logs the numbers of training after the first step and then every so many, those of evaluation after it.

    ``step`` counts finished optimizer steps, as in the metrics files. Losses are weighted, so that components add up
    to the loss and layers to their component; they are the means of a step over its accumulated batches, on the main
    process. Nothing is read from the device between the steps that are logged.

    Args:
        frequency: steps from one that is logged to the next.
        layers: log the losses of each decoder layer too.
    """

    def __init__(self, *, frequency: int, layers: bool) -> None:
        self.frequency = frequency
        self.layers = layers

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count, also in the middle of an epoch."""
        self._train_classes = ClassCounts(len(pl_module.detector.categories))
        self._step = trainer.global_step
        self._begin_step()
        self._begin_window(trainer)
        self._ended = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What came before, evaluation and checkpoints, is not the time of a step."""
        self._ended = time.monotonic()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Gradients are whole, unscaled, and not yet clipped."""
        if self._is_due(trainer.global_step + 1) and trainer.is_global_zero:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(gradients)
            self._groups = [dict(group, params=None) for group in optimizer.param_groups]  # the schedule goes on

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a step that is due."""
        now = time.monotonic()
        self._seconds += now - self._ended
        self._images += len(batch.image_ids) * trainer.world_size
        self._terms = self._terms + torch.stack(list(outputs["terms"]))  # [3, L]
        for name, value in outputs["auxiliary"].items():
            self._auxiliary[name] = self._auxiliary.get(name, 0.0) + value
        self._batches += 1
        self._train_classes.add(outputs["logits"], batch.targets, outputs["matches"])
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if self._is_due(self._step) and trainer.is_global_zero:
                terms = (self._terms / self._batches).cpu()
                values = _losses("train", LossTerms(*terms).weighted(pl_module.settings.losses), layers=self.layers)
                auxiliary = {name: (value / self._batches).item() for name, value in self._auxiliary.items()}
                values |= {f"train/loss_{name}": value for name, value in auxiliary.items()}
                values["train/loss"] += sum(auxiliary.values())
                values |= self._optimizer(trainer) | self._speed(trainer) | memory_now(pl_module.device)
                log_values(trainer.loggers, values, self._step)
                self._begin_window(trainer)
            self._begin_step()
        self._ended = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how the matched predictions of the epoch were classified."""
        self._train_classes.share(trainer)
        log_values(
            trainer.loggers,
            _classes("train", self._train_classes, pl_module.detector.categories),
            trainer.global_step,
        )
        self._train_classes = ClassCounts(len(pl_module.detector.categories))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum up anew."""
        self._val_classes = ClassCounts(len(pl_module.detector.categories))
        self._val_losses = LossSums()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Match the predictions of a batch as in training."""
        matches = pl_module.criterion.matcher(outputs.logits, outputs.boxes_cxcywh, batch.targets)
        terms = pl_module.criterion.loss_sums(
            outputs.logits, outputs.boxes_cxcywh[matches.predictions], batch.targets, matches
        )
        self._val_losses.add(terms, batch.targets)
        self._val_classes.add(outputs.logits, batch.targets, matches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log metrics and losses of the validation images."""
        metrics, categories = pl_module.metrics, pl_module.detector.categories
        values = {f"val/{name}": value for name, value in metrics.numbers.items()} | {"val/AR": metrics.AR100}
        names = dict(zip(categories.ids, categories.shown, strict=True))
        values |= {f"val_AP_per_class/{names[row.category_id]}": row.AP for row in metrics.per_class}
        values = {tag: value for tag, value in values.items() if value != -1}
        self._val_losses.share(trainer)
        self._val_classes.share(trainer)
        values |= _losses("val", self._val_losses.mean.weighted(pl_module.settings.losses), layers=self.layers)
        values |= _classes("val", self._val_classes, categories)
        log_values(trainer.loggers, values, trainer.global_step)

    def _is_due(self, step: int) -> bool:
        return step == 1 or step % self.frequency == 0

    def _optimizer(self, trainer: Trainer) -> dict[str, float]:
        values = {"optimizer/gradient_norm": self._norm.item()}
        for group in self._groups:
            values[f"optimizer/learning_rate/{group['name']}"] = group["lr"]
            values[f"optimizer/weight_decay/{group['name']}"] = group["weight_decay"]
        precision = trainer.precision_plugin
        scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
        return values | {"optimizer/loss_scale": 1.0 if scaler is None else scaler.get_scale()}

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        waited = trainer.train_dataloader.seconds_waited - self._waited_before
        return {
            "speed/images_per_second": self._images / self._seconds,
            "speed/waiting_for_data": min(1.0, waited / self._seconds),
        }

    def _begin_step(self) -> None:
        self._terms: torch.Tensor | float = 0.0
        self._auxiliary: dict[str, torch.Tensor | float] = {}
        self._batches = 0

    def _begin_window(self, trainer: Trainer) -> None:
        self._images = 0
        self._seconds = 0.0
        self._waited_before = trainer.train_dataloader.seconds_waited


def _losses(stage: str, terms: LossTerms, *, layers: bool) -> dict[str, float]:
    """The loss, its components, and the decoder layers of each, counted from 1."""
    values = {f"{stage}/loss": sum(terms).sum().item()}
    for name, per_layer in terms._asdict().items():
        values[f"{stage}/loss_{name}"] = per_layer.sum().item()
        if layers:
            values |= {f"{stage}/loss_{name}/layer_{n}": value for n, value in enumerate(per_layer.tolist(), start=1)}
    return values


def _classes(stage: str, counts: ClassCounts, categories: Categories) -> dict[str, float]:
    return {
        f"{stage}_{kind}_per_class/{name}": share
        for kind, shares in (("accuracy", counts.accuracy), ("precision", counts.precision))
        for name, share in zip(categories.shown, shares, strict=True)
        if share is not None
    }
