"""This repository's detector, by the path that its users take: ``python -m benchmarks.accuracy.ours JOB``.

The job's settings are those of a YAML file for ``dino-detector train``; epochs, evaluations and seed are the job's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from benchmarks.accuracy.job import Job
from benchmarks.accuracy.recorder import Pace, Recorder
from dino_detector.commands.frame import configure_logging
from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.training.fit import fit
from dino_detector.training.memory import peak_memory

ENDLESS = 1_000_000
FEWEST_EPOCHS = 2


class Pacemaker(Callback):
    """Measures images a second, and stops."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """The clock runs from here on."""
        self.pace.clock.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count."""
        trainer.should_stop = self.pace.step(len(batch.image_ids))


class Watch(Callback):
    """Counts images and time, and keeps the detections of every evaluation."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.parameters = 0
        self.peak: dict[str, int] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """The clock runs from here on."""
        self.recorder.clock.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count, and stop where the budget is spent; the trainer then evaluates."""
        self.recorder.images_seen += len(batch.image_ids)
        if self.recorder.is_late:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = 1  # or an epoch that is not due would not be evaluated

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation is not training time."""
        self.recorder.clock.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self.recorder.record(pl_module.results)
        self.recorder.clock.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What the run was."""
        self.parameters = sum(parameter.numel() for parameter in pl_module.detector.parameters())
        self.peak = peak_memory(pl_module.device)


def config_of(job: Job, **settings: Any) -> Config:
    """The job's settings with its data, its device and its seed, and then others."""
    data = {name: getattr(job, name) for name in ("train_images", "train_annotations", "val_images", "val_annotations")}
    given = {"seed": job.seed, "device": job.device, "output_dir": str(Path(job.folder, "run"))}
    return Config.from_flat(job.settings | data | given | settings)


def main(path: str) -> None:
    """Calibrate, train, and write the record."""
    job = Job.read(path)
    configure_logging()
    calibration = Path(job.folder, "calibration")
    pace = Pace(job.calibration)
    without_evaluation = {"val_images": None, "val_annotations": None}
    fit(config_of(job, epochs=ENDLESS, output_dir=str(calibration), **without_evaluation), callbacks=[Pacemaker(pace)])
    shutil.rmtree(calibration)

    images = len(json.loads(Path(job.train_annotations).read_text(encoding="utf-8"))["images"])
    epochs = int(pace.images_per_second * job.budget / images)
    if epochs < FEWEST_EPOCHS:
        raise InputError(
            f"--budget {job.budget:g}: an epoch takes {images / pace.images_per_second:.0f} s, and there have to be at "
            f"least {FEWEST_EPOCHS}; give a longer budget, or fewer images"
        )
    recorder = Recorder(job)
    watch = Watch(recorder)
    fit(config_of(job, epochs=epochs, val_frequency=max(1, round(epochs / job.evaluations))), callbacks=[watch])
    recorder.write(
        calibrated_images_per_second=pace.images_per_second,
        parameters=watch.parameters,
        peak_gpu_memory_bytes=watch.peak.get("peak_gpu_memory_bytes"),
    )


if __name__ == "__main__":
    main(sys.argv[1])
