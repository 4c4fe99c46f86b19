"""A run that Lightning interrupts and resumes sees the batches of an uninterrupted run, in the same order."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from dino_detector.config import AugmentationConfig, ImageSize
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, WholeImages
from dino_detector.data.loading import build_evaluation_loader, build_training_loader
from dino_detector.data.sampling import BatchSizes

lightning = pytest.importorskip("lightning.pytorch")
EPOCHS, BATCHES = 3, 4


class Recorder(lightning.LightningModule):
    """Record the images of training; ``seen`` holds (epoch, image ids, a number from the pixels)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[int, ...], float]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, tuple(batch.image_ids), batch.pixel_values.double().sum().item()))
        return self.weight * 0.0

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(lightning.Callback):
    """Save a checkpoint when a hook fires for the ``count``-th time, and record the number of batches so far."""

    def __init__(self, hook: str, count: int, path) -> None:
        self.hook, self.left, self.path, self.seen = hook, count, path, None

    def fire(self, hook, trainer, module) -> None:
        if hook != self.hook or trainer.sanity_checking:
            return
        self.left -= 1
        if self.left == 0:
            trainer.save_checkpoint(self.path)
            self.seen = len(module.seen)

    def on_train_batch_end(self, trainer, module, *_):
        self.fire("on_train_batch_end", trainer, module)

    def on_train_epoch_end(self, trainer, module):
        self.fire("on_train_epoch_end", trainer, module)

    def on_validation_end(self, trainer, module):
        self.fire("on_validation_end", trainer, module)


def run(annotations, *, num_workers, callback=None, checkpoint=None):
    images = CocoImages(annotations.path.parent, annotations)
    sizes = [ImageSize(28, 28), ImageSize(42, 42)]
    settings = AugmentationConfig(mosaic_probability=0.5, copy_paste_probability=0.5)
    training = Augmentation(settings, resize_mode="stretch", seed=1, no_augment_from=2)
    evaluation = WholeImages(image_size=sizes[0], resize_mode="stretch")
    loader = {"batch_size": 2, "mean": [0.5] * 3, "std": [0.2] * 3, "num_replicas": 1, "rank": 0, "pin_memory": False}
    module = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[callback] if callback else [],
    )
    trainer.fit(
        module,
        build_training_loader(
            dataset=CocoDetection(images, view=training, on_bad_image="raise"),
            factors=np.linspace(1, 2, len(images)),
            sizes=BatchSizes(sizes, plain=sizes[0], no_augment_from=2, seed=1),
            num_workers=num_workers,
            seed=1,
            **loader,
        ),
        build_evaluation_loader(
            dataset=CocoDetection(images, view=evaluation, on_bad_image="raise"), num_workers=0, **loader
        ),
        ckpt_path=checkpoint,
        weights_only=True if checkpoint else None,
    )
    return module.seen


@pytest.mark.parametrize(
    ("hook", "count", "num_workers"),
    [
        ("on_train_batch_end", 1, 0),
        ("on_train_batch_end", 2, 2),
        ("on_train_batch_end", BATCHES, 0),
        ("on_train_batch_end", BATCHES + 3, 0),
        ("on_train_batch_end", BATCHES + 3, 2),
        ("on_train_epoch_end", 1, 0),
        ("on_train_epoch_end", 2, 2),
        ("on_validation_end", 2, 0),
    ],
)
def test_resumed_run_sees_exactly_the_remaining_batches(folder, tmp_path, hook, count, num_workers):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        annotations = folder(5)  # with repeats an epoch has 7
        callback = SaveAt(hook, count, tmp_path / "run.ckpt")
        unbroken = run(annotations, num_workers=num_workers, callback=callback)
        resumed = run(annotations, num_workers=0, checkpoint=callback.path)
    assert len(unbroken) == EPOCHS * BATCHES
    assert 0 < callback.seen < len(unbroken)
    assert resumed == unbroken[callback.seen :]
