"""The folder of a run's files, in which nothing of an earlier run is overwritten."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from dino_detector.config import TrainingConfig
from dino_detector.errors import InputError

log = logging.getLogger(__name__)

OF_A_RUN = (
    *("dino_detector_*.pth", "val_metrics_epoch_*.json", "config.yaml"),
    *("*_indices.json", "testdev_predictions_final.json", "testdev_image_info.json"),
)


def make_output_dir(folder: Path, *, flag: str = "--output_dir") -> None:
    """Make the folder that a flag names; raises `InputError` where it can't be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: can't be written to ({error.strerror}); give another {flag}") from error


def prepare_output_dir(training: TrainingConfig, *, resumes: bool) -> None:
    """Make the folder of a training run and move what an earlier run left in it aside, unless this one resumes it."""
    folder = training.output_dir
    make_output_dir(folder)
    if not (resumes and training.checkpoint.resolve().parent == folder.resolve()):
        _move_earlier_run(folder)


def _move_earlier_run(output_dir: Path) -> None:
    """Move checkpoints, metrics and settings to a folder that is named by the time of the newest."""
    files = [file for name in OF_A_RUN for file in output_dir.glob(name)]
    if not files:
        return
    newest = max(file.stat().st_mtime for file in files)
    folder = output_dir / time.strftime("earlier_%Y%m%d-%H%M%S", time.localtime(newest))
    while folder.exists():
        folder = folder.with_name(f"{folder.name}_")
    folder.mkdir()
    for file in files:
        file.replace(folder / file.name)
    log.info("moved the files of an earlier run to %s", folder)
