"""RF-DETR on the common backbone: ``python -m benchmarks.accuracy.rf_detr JOB``.

Runs in an environment with ``rfdetr[train]``. It trains the nano size from random weights, with the package's Lightning
modules and default settings, at the job's image size and patch size. RF-DETR selects an encoder by name, and the
smallest one is ViT-S, so the configuration behind that name is replaced by the job's backbone; all other code is the
package's. One departure from its recipe favours training from scratch: ``lr_vit_layer_decay`` and
``lr_component_decay`` are 1, so all encoder layers learn at 1.5e-4 and the decoder at 1e-4. Lower rates suit pretrained
weights. The default learning rate is constant for 100 epochs, so a run can end at any step.

The job's settings are ``model``, ``train`` and ``trainer``: overrides of the package's `RFDETRNanoConfig`, of its
`TrainConfig` and of Lightning's trainer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rfdetr.config import RFDETRNanoConfig, TrainConfig
from rfdetr.models.backbone import dinov2
from rfdetr.training import RFDETRDataModule, RFDETRModelModule, build_trainer
from rfdetr.training.callbacks import RFDETREMACallback

from benchmarks.accuracy.job import Job, job_of_command_line
from benchmarks.accuracy.recorder import MAX_DETECTIONS, Recorder, coco_result

ENDLESS = 1_000_000
"""steps of a run that a callback stops"""


def use_backbone(backbone: dict[str, int]) -> None:
    """Replace the configuration of ViT-S by the job's backbone."""
    original = dinov2.get_config
    dinov2.get_config = lambda size, use_registers: original(size, use_registers) | backbone
    dinov2.size_to_width["small"] = backbone["hidden_size"]


def tapped_layers(depth: int) -> list[int]:
    """Return the layers that the decoder reads: after each quarter, like the nano size with 3, 6, 9 and 12."""
    return [-(-depth * quarter // 4) for quarter in (1, 2, 3, 4)]


def link_dataset(job: Job, folder: Path) -> None:
    """Link the data into RF-DETR's layout: a folder with images and annotations for each split."""
    splits = {
        "train": (job.train_images, job.train_annotations),
        "valid": (job.val_images, job.val_annotations),
    }
    for split, (images, listing) in splits.items():
        target = folder / split
        target.mkdir(parents=True)
        for record in json.loads(Path(listing).read_text(encoding="utf-8"))["images"]:
            link = target / record["file_name"]
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(images, record["file_name"]))
        (target / "_annotations.coco.json").symlink_to(listing)


class Watch(pl.Callback):
    """Count images, evaluate when due and at the end, and stop at the end of the budget."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_train_batch_start(self, *args: Any) -> None:
        """Start the clock with the first step."""
        self.recorder.clock.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count, evaluate and stop, after the step of the optimizer and of the moving average."""
        recorder = self.recorder
        recorder.images_seen += len(batch[1])
        is_last = recorder.is_over
        if is_last or recorder.is_due:
            with recorder.evaluating():
                recorder.record(detect(trainer, pl_module))
        trainer.should_stop = is_last


@torch.no_grad()
def detect(trainer: pl.Trainer, module: RFDETRModelModule) -> list[dict[str, Any]]:
    """Return COCO results for the validation images, from the weights that the package evaluates."""
    loader = trainer.datamodule.val_dataloader()
    categories = loader.dataset.label2cat
    results: list[dict[str, Any]] = []
    module.eval()
    for number, batch in enumerate(loader):
        moved = trainer.strategy.batch_to_device(batch)
        found = module.validation_step(moved, number)
        for detections, target in zip(found["results"], found["targets"], strict=True):
            best = detections["scores"].argsort(descending=True)
            rows = zip(*(detections[key][best].tolist() for key in ("labels", "boxes", "scores")), strict=True)
            known = [row for row in rows if row[0] in categories]  # the head has one output more than there are classes
            results += [
                coco_result(int(target["image_id"]), categories[label], box_xyxy, score)
                for label, box_xyxy, score in known[:MAX_DETECTIONS]
            ]
    module.train()
    return results


def configs_of(job: Job) -> tuple[RFDETRNanoConfig, TrainConfig]:
    """Return the package's settings of model and training."""
    folder = Path(job.folder)
    training_set = json.loads(Path(job.train_annotations).read_text(encoding="utf-8"))
    model_config = RFDETRNanoConfig(
        **{
            "pretrain_weights": None,
            "num_classes": len(training_set["categories"]),
            "patch_size": 14,
            "resolution": job.image_size,
            "positional_encoding_size": job.image_size // 14,
            "out_feature_indexes": tapped_layers(job.backbone["num_hidden_layers"]),
            "device": job.device,
        }
        | job.settings["model"]
    )
    train_config = TrainConfig(
        **{
            "dataset_dir": str(folder / "data"),
            "output_dir": str(folder / "rf_detr"),
            "lr_vit_layer_decay": 1.0,
            "lr_component_decay": 1.0,
            "num_workers": job.workers,
            "compute_val_loss": False,
            "tensorboard": False,
            "seed": job.seed,
        }
        | job.settings["train"]
    )
    return model_config, train_config


def fit(job: Job, watch: pl.Callback) -> RFDETRModelModule:
    """Train until ``watch`` stops the trainer; return the trained module."""
    model_config, train_config = configs_of(job)
    pl.seed_everything(job.seed, workers=True)
    module = RFDETRModelModule(model_config, train_config)
    data = RFDETRDataModule(model_config, train_config)
    device = torch.device(job.device)
    trainer = build_trainer(
        train_config,
        model_config,
        **{
            "accelerator": "cpu" if device.type == "cpu" else "gpu",
            "devices": 1 if device.index is None else [device.index],
            "max_epochs": -1,
            "max_steps": ENDLESS,
            "limit_val_batches": 0,
        }
        | job.settings["trainer"],
    )
    averaging = [callback for callback in trainer.callbacks if isinstance(callback, RFDETREMACallback)]
    trainer.callbacks = [*averaging, watch]  # the others evaluate and write checkpoints
    trainer.fit(module, data)
    return module


def train(job: Job) -> None:
    """Train, and write the record."""
    use_backbone(job.backbone)
    link_dataset(job, Path(job.folder, "data"))
    recorder = Recorder(job)
    module = fit(job, Watch(recorder))
    recorder.write(
        parameters=sum(parameter.numel() for parameter in module.model.parameters()),
        peak_gpu_memory_bytes=None if job.device == "cpu" else torch.cuda.max_memory_allocated(job.device),
    )


if __name__ == "__main__":
    train(job_of_command_line("benchmarks.accuracy.rf_detr", __doc__))
