"""The history of a run: a record of each epoch, in checkpoints and in ``history.csv``."""

from __future__ import annotations

import csv
import io
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from dino_detector.training.pace import Pace, is_evaluated


class EpochHistory(Callback):
    """Keep a record of each epoch, counted from 1.

    A record holds the mean of the loss and of its parts over the images of this machine, the learning rate after the
    epoch, images per second and seconds with loading and evaluation, and after an evaluation the twelve COCO metrics. A
    resumed run continues the records of its checkpoint, and the sums of its unfinished epoch.

    ``pace`` is the run's clock.
    """

    state_key = "history"

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.records: list[dict[str, float]] = []
        self._sums: dict[str, Tensor | float] = {}
        self._counts = {"batches": 0, "images": 0, "seconds": 0.0}

    @property
    def seconds(self) -> float:
        """Seconds of the current epoch, with those before a resume."""
        return self.pace.now() - self._started

    @property
    def images_per_second(self) -> float:
        """Images per second of the current epoch so far, on all machines."""
        return self._counts["images"] / self.seconds

    @property
    def mean_loss(self) -> float:
        """Mean loss of the current epoch so far, on this machine; reading it waits for the device."""
        return torch.as_tensor(self._sums["total"]).item() / self._counts["batches"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed run may start in the middle of an epoch."""
        self._started = self.pace.now() - self._counts["seconds"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the losses to sums on their device, because reading them would wait for the device."""
        weighted = outputs["terms"].weighted(pl_module.settings.losses)
        losses = {name: value.sum() for name, value in weighted._asdict().items()} | outputs["auxiliary"]
        losses["total"] = outputs["loss"] * trainer.accumulate_grad_batches  # Lightning divides by these batches
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts["batches"] += 1
        self._counts["images"] += len(batch.image_ids) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the record of the epoch."""
        epoch, counts, seconds = trainer.current_epoch + 1, self._counts, self.seconds
        means = {
            name: trainer.strategy.reduce(torch.as_tensor(value) / counts["batches"], reduce_op="mean").item()
            for name, value in self._sums.items()
        }
        record = {"epoch": epoch, "loss": means.pop("total"), **{f"loss_{name}": one for name, one in means.items()}}
        record["learning_rate"] = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        record |= {"images_per_second": counts["images"] / seconds, "seconds": seconds}
        metrics = pl_module.metrics
        if metrics is not None and is_evaluated(trainer, epoch):
            record |= {name: value for name, value in metrics.numbers.items() if value != -1}
        self.records.append(record)
        self._started, self._sums = self._started + seconds, {}
        self._counts = {"batches": 0, "images": 0, "seconds": 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Return the records, and the sums of an unfinished epoch."""
        counts = self._counts | {"seconds": self.seconds}
        sums = {name: float(value) for name, value in self._sums.items()}
        return {"records": self.records, "sums": sums, "counts": counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the records of the resumed run."""
        self.records, self._sums = list(state_dict["records"]), dict(state_dict["sums"])
        self._counts = dict(state_dict["counts"])

    def as_csv(self) -> str:
        """Return the records as CSV; an epoch without an evaluation has empty metrics."""
        names = list(dict.fromkeys(name for record in self.records for name in record))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return text.getvalue()
