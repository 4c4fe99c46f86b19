"""The folder of a run's files, in which nothing of an earlier run is overwritten."""

from __future__ import annotations

import re
from pathlib import Path

from dino_detector.config import TrainingConfig
from dino_detector.models.checkpoint import read_checkpoint
from dino_detector.storage.output_folder import move_aside
from dino_detector.training.checkpoints import BEST, FINAL, LAST, finished_epochs

OF_A_RUN = (
    *("dino_detector_*.pth", "val_metrics_epoch_*.json", "val_predictions_epoch_*.json", "config.yaml"),
    *("*_indices.json", "testdev_predictions_final.json", "testdev_image_info.json"),
)


def prepare_output_dir(training: TrainingConfig, *, epochs_before: int | None) -> None:
    """Move aside what a training run would replace in its folder or leave beside its own files.

    Args:
        training: settings of the run.
        epochs_before: epochs that the run which it resumes had finished; None for a new run. Where that run is in the
            same folder and went further, its later files are moved.
    """
    folder = training.output_dir
    files = [file for name in OF_A_RUN for file in folder.glob(name)]
    if epochs_before is not None and training.checkpoint.resolve().parent == folder.resolve():
        later = [file for file in files if _epoch(file) > epochs_before]
        newest = [folder / name for name in (LAST, BEST, FINAL) if later and (folder / name).exists()]
        newest = [file for file in newest if file.name != BEST or _finished(file) > epochs_before]
        files = later + [file for file in newest if file.resolve() != training.checkpoint.resolve()]
    move_aside(files, folder)


def _epoch(file: Path) -> int:
    """The number in the name of an epoch's file; 0 for other files."""
    match = re.search(r"_epoch_(\d+)\.", file.name)
    return int(match[1]) if match else 0


def _finished(checkpoint: Path) -> int:
    _, contents = read_checkpoint(checkpoint)
    return finished_epochs(contents)
