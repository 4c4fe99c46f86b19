"""Numbers of a run: losses, class accuracy, optimizer, speed, memory and metrics."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor
from torch.optim import Optimizer

from dino_detector.losses import LossTerms
from dino_detector.structures.categories import Categories
from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets
from dino_detector.training.logging.loggers import log_values
from dino_detector.training.memory import memory_now


class LossSums:
    """Sum of unweighted losses over batches; the mean per box does not depend on the batch size.

    Attributes:
        sums: ``[3 * L + 1]`` float, sums of the three terms by layer, and the number of boxes.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def add(self, terms: LossTerms, targets: Targets) -> None:
        """Add a batch; its terms are sums over boxes."""
        sums = torch.cat([*terms, targets.valid.sum().float().view(1)])
        self.sums = sums if self.sums is None else self.sums + sums

    def reduce(self, trainer: Trainer) -> None:
        """Sum over all processes."""
        self.sums = trainer.strategy.reduce(self.sums, reduce_op="sum")

    @property
    def mean(self) -> LossTerms:
        """Losses per box."""
        *sums, boxes = self.sums
        return LossTerms(*(torch.stack(sums) / boxes.clamp(min=1)).view(3, -1))


class ClassCounts:
    """Counts, by class, of the matched predictions of the last decoder layer.

    The class of a prediction is the class with its highest score. Matching has already assigned the prediction to a
    box, so the counts measure classification and not localization.

    Attributes:
        counts: ``[3, C]`` int64: boxes of the class, predictions of the class, and correct predictions of the class.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)

    def add(self, logits: Tensor, targets: Targets, matches: MatchedIndices) -> None:
        """Count the matches of a batch.

        Args:
            logits: ``[L, B, Q, C]``.
            targets: ground truth of the B images.
            matches: matched pairs of all L layers.
        """
        self.counts = self.counts.to(logits.device)
        pairs = len(matches.layer) // len(logits)  # the last layer's pairs come last, and all layers have equally many
        image, query, target = (index[len(matches.layer) - pairs :] for index in matches[1:])
        labels = targets.labels[image, target]  # [M]
        predicted = logits[-1, image, query].argmax(-1)  # [M]
        ones = torch.ones_like(labels)
        for row, classes, counted in (
            (0, labels, ones),
            (1, predicted, ones),
            (2, labels, (labels == predicted).long()),
        ):
            self.counts[row].index_add_(0, classes, counted)

    def reduce(self, trainer: Trainer) -> None:
        """Sum over all processes."""
        self.counts = trainer.strategy.reduce(self.counts, reduce_op="sum")

    @property
    def accuracy(self) -> list[float | None]:
        """Fraction of the boxes of each class with a correct prediction; None for a class without boxes."""
        return self._correct_share(0)

    @property
    def precision(self) -> list[float | None]:
        """Fraction of the predictions of each class that are correct; None for a class without predictions."""
        return self._correct_share(1)

    def _correct_share(self, row: int) -> list[float | None]:
        rows = self.counts.tolist()
        return [correct / count if count else None for correct, count in zip(rows[2], rows[row], strict=True)]


class ScalarLog(Callback):
    """Log numbers of training after the first step and every ``frequency`` steps, and numbers of every evaluation.

    ``step`` counts finished optimizer steps, as in the metrics files. Losses are weighted: components add up to the
    loss, and layers to their component. A loss is the mean of a step over its accumulated batches, on the main process.
    The callback reads nothing from the device between two logged steps.

    Args:
        frequency: number of steps between two logged steps.
        layers: log the losses of each decoder layer too.
    """

    def __init__(self, *, frequency: int, layers: bool) -> None:
        self.frequency = frequency
        self.layers = layers

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting; a resumed run may start in the middle of an epoch."""
        self._train_classes = ClassCounts(len(pl_module.detector.categories))
        self._step = trainer.global_step
        self._begin_step()
        self._begin_window(trainer)
        self._ended = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock: evaluation and checkpoints are not part of a step."""
        self._ended = time.monotonic()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep the gradient norm and the rates of a step that is due; gradients are unscaled and not yet clipped."""
        if self._is_due(trainer.global_step + 1) and trainer.is_global_zero:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(gradients)
            self._groups = [dict(group, params=None) for group in optimizer.param_groups]  # before the schedule steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch to the sums, and log a step that is due."""
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
        """Log the class accuracy of the epoch's matched predictions."""
        self._train_classes.reduce(trainer)
        categories = pl_module.detector.categories
        log_values(trainer.loggers, _classes("train", self._train_classes, categories), trainer.global_step)
        self._train_classes = ClassCounts(len(categories))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start new sums."""
        self._val_classes = ClassCounts(len(pl_module.detector.categories))
        self._val_losses = LossSums()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Match the predictions of a batch as in training, and add it to the sums."""
        matches = pl_module.criterion.matcher(outputs.logits, outputs.boxes_cxcywh, batch.targets)
        terms = pl_module.criterion.loss_sums(
            outputs.logits, outputs.boxes_cxcywh[matches.predictions], batch.targets, matches
        )
        self._val_losses.add(terms, batch.targets)
        self._val_classes.add(outputs.logits, batch.targets, matches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log metrics, losses and class accuracy of the validation images."""
        metrics, categories = pl_module.metrics, pl_module.detector.categories
        values = {f"val/{name}": value for name, value in metrics.numbers.items()} | {"val/AR": metrics.AR100}
        names = dict(zip(categories.ids, categories.shown, strict=True))
        values |= {f"val_AP_per_class/{names[row.category_id]}": row.AP for row in metrics.per_class}
        values = {tag: value for tag, value in values.items() if value != -1}
        self._val_losses.reduce(trainer)
        self._val_classes.reduce(trainer)
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
        self._terms: Tensor | float = 0.0
        self._auxiliary: dict[str, Tensor | float] = {}
        self._batches = 0

    def _begin_window(self, trainer: Trainer) -> None:
        self._images = 0
        self._seconds = 0.0
        self._waited_before = trainer.train_dataloader.seconds_waited


def _losses(stage: str, terms: LossTerms, *, layers: bool) -> dict[str, float]:
    """Return the loss, its components, and the losses of the decoder layers, which count from 1."""
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
