"""The command ``train``: train a detector, and evaluate it on the way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Set
from typing import TYPE_CHECKING, Any

from dino_detector.commands.evaluate import evaluate_run, find_data, with_indices_file
from dino_detector.commands.frame import command, is_main_process
from dino_detector.config import Config, preset_settings
from dino_detector.terminal import with_headings

if TYPE_CHECKING:
    from dino_detector.structures.metrics import CocoMetrics
    from dino_detector.training.run_data import ReadData

log = logging.getLogger(__name__)


@command(Config)
def main(config: Config, given: Set[str]) -> None:
    """Train a detector on labelled images, or evaluate one with --only_evaluate.

    Training needs DATA, a folder or file of a labelling tool: COCO, YOLO, Pascal VOC, labelme, CVAT, CreateML or Open
    Images. Or it needs --train_images and --train_annotations; with validation images, the detector is evaluated on
    the way. Evaluation needs --checkpoint, and validation images or --testdev_images. The --download flags
    fetch COCO 2017. Where no images are named, COCO 2017 is used from --data_dir.
    """
    if config.training.only_evaluate:
        return evaluate_run(config, given)
    metrics = train(config, given)
    if is_main_process() and metrics is not None:
        from dino_detector.analysis.tables import metrics_table, overfitting_verdict

        print(f"\nthe last evaluation:\n{with_headings(metrics_table(metrics), sys.stdout)}")
        if config.subset.debug:
            print(f"\n{overfitting_verdict(metrics)}")


def train(config: Config, given: Set[str], *, read_data: ReadData | None = None, **extras: Any) -> CocoMetrics | None:
    """Train a detector and return the metrics after the last epoch; None without validation images.

    ``given`` names the settings that the user gave. ``read_data`` replaces `read_run_data`, for data that is no file.
    ``extras`` are callbacks and loggers, see `training.fit.fit`.
    """
    if read_data is None:
        read_data = find_data(config, training=True)  # report a missing flag before torch is imported
    from dino_detector.training.fit import fit

    config = with_indices_file(config, given)
    values = config.flat()
    kept = [f"{name} {values[name]}" for name, value in preset_settings(values).items() if values[name] != value]
    if kept:  # for example settings of a file that was written for another run
        presets = " and ".join(name for name in ("lightweight", "debug") if values[name])
        log.info("your settings override the preset %s: %s", presets, ", ".join(kept))
    return fit(config, read_data=read_data, **extras)
