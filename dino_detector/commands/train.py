"""The command ``train``: train a detector, and evaluate it on the way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dino_detector.commands.arguments import RunSettings, parse_config, write_config
from dino_detector.commands.evaluate import evaluate_settings, with_indices_file
from dino_detector.commands.frame import configure_logging, is_main_process, run_command
from dino_detector.config import Config, preset_settings

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 -m dino_detector.train") -> int:
    """Train a detector, or evaluate one with ``--only_evaluate``, and return the exit code.

    Args:
        argv: the command line without the command; None takes the command line of the process.
        prog: the command as the user types it.
    """

    def command() -> int:
        settings = parse_config(
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Train a detector on images with COCO annotations, or evaluate one with --only_evaluate. "
            "Training needs --train_images and --train_annotations, and with --val_images and --val_annotations it is "
            "evaluated on the way. Evaluation needs --checkpoint, and validation images or --testdev_images. COCO 2017 "
            "is fetched by the --download flags, and used from --data_dir where no images are named.",
        )
        return evaluate_settings(settings) if settings.config.training.only_evaluate else _train(settings)

    return run_command(command)


def settings_writer(config: Config) -> Callback:
    """Return a callback that writes the resolved settings to ``config.yaml`` when training begins."""
    from lightning.pytorch.callbacks import LambdaCallback

    def write(trainer: Any, module: Any) -> None:
        if trainer.is_global_zero:
            write_config(module.settings, config.training.output_dir / "config.yaml")

    return LambdaCallback(on_train_start=write)


def _train(settings: RunSettings) -> int:
    from dino_detector.training.run_data import find_paths

    find_paths(settings.config, training=True)  # report a missing flag before torch is imported
    configure_logging()
    from dino_detector.analysis.tables import metrics_table, overfitting_verdict
    from dino_detector.training.fit import fit

    config = with_indices_file(settings)
    _tell_of_presets(config)
    metrics = fit(config, callbacks=[settings_writer(config)])
    if is_main_process() and metrics is not None:
        print(f"\nthe last evaluation:\n{metrics_table(metrics)}")
        if config.subset.debug:
            print(f"\n{overfitting_verdict(metrics)}")
    return 0


def _tell_of_presets(config: Config) -> None:
    """Log the settings of a preset that the user overrides, perhaps in a file written for another run."""
    values = config.flat()
    kept = [f"{name} {values[name]}" for name, value in preset_settings(values).items() if values[name] != value]
    if kept:
        names = [name for name in ("lightweight", "debug") if values[name]]
        holds = "preset holds" if len(names) == 1 else "presets hold"
        log.info("the %s %s except for what you gave: %s", " and ".join(names), holds, ", ".join(kept))
