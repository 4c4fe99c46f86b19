"""Our detector, trained as ``dino-detector train`` does it: ``python -m benchmarks.accuracy.ours JOB``.

A YAML file for ``dino-detector train`` gives the settings. The job sets the epochs, the evaluations and
the seed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from benchmarks.accuracy.job import Job, job_of_command_line
from benchmarks.accuracy.recorder import Pace, Recorder
from dino_detector.commands.frame import configure_logging
from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.training.fit import fit
from dino_detector.training.memory import peak_memory

ENDLESS = 1_000_000
"""epochs of a run that a callback stops"""
FEWEST_EPOCHS = 2


class Pacemaker(Callback):
    """Measure the throughput, then stop the training."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Start the clock with the first step."""
        self.pace.clock.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the images."""
        trainer.should_stop = self.pace.step(len(batch.image_ids))


class Watch(Callback):
    """Count images and time, and record every evaluation."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.parameters = 0
        self.peak: dict[str, int] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Start the clock with the first step."""
        self.recorder.clock.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the images, and stop a late run; the trainer then evaluates."""
        self.recorder.images_seen += len(batch.image_ids)
        if self.recorder.is_late:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = 1  # else the trainer would skip the evaluation of this epoch

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause the clock: evaluation is not training time."""
        self.recorder.clock.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the evaluation, and resume the clock."""
        self.recorder.record(pl_module.results)
        self.recorder.clock.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the number of parameters and the peak memory."""
        self.parameters = sum(parameter.numel() for parameter in pl_module.detector.parameters())
        self.peak = peak_memory(pl_module.device)


def config_of(job: Job, **settings: Any) -> Config:
    """Return the settings of a job, with its data, device and seed; ``settings`` take precedence."""
    data = {name: getattr(job, name) for name in ("train_images", "train_annotations", "val_images", "val_annotations")}
    given = {"seed": job.seed, "device": job.device, "output_dir": str(Path(job.folder, "run"))}
    return Config.from_flat(job.settings | data | given | settings)


def train(job: Job) -> None:
    """Measure the throughput, train for the epochs that fit the budget, and write the record.

    Raises:
        InputError: the budget is shorter than two epochs.
    """
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
    train(job_of_command_line("benchmarks.accuracy.ours", __doc__))
