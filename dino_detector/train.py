"""Command line of training and evaluation: ``python3 -m dino_detector.train``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from dino_detector.arguments import Given, build_config, parse_settings, write_config
from dino_detector.command import configure_logging, report_interruption, run_command
from dino_detector.config import Config
from dino_detector.errors import InputError

TRAINING_FILES = ("train_images", "train_annotations", "val_images", "val_annotations")
EVALUATION_FILES = ("checkpoint", "val_images", "val_annotations")
EVALUATION_HELP = {
    **dict.fromkeys(("val_images", "val_annotations", "num_workers", "batch_size", "precision", "device"), ""),
    "checkpoint": "checkpoint to evaluate",
    "dino_model": "name or folder of the base model, where it is not the one the checkpoint names",
    "output_dir": "folder for val_metrics.json (default: outputs)",
}
"""what evaluation reads of the settings, with a help of its own where that of training does not fit"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 -m dino_detector.train") -> int:
    """Train a detector, or evaluate one with ``--only_evaluate``; returns the exit code.

    Args:
        argv: the command line without the command; None takes that of the process.
        prog: the command as the user types it.
    """

    def command() -> int:
        given = parse_settings(
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Train a detector on images with COCO annotations, or evaluate one with --only_evaluate. "
            "Training needs --train_images, --train_annotations, --val_images and --val_annotations; evaluation "
            "needs --checkpoint, --val_images and --val_annotations.",
        )
        config = build_config(given)
        return _evaluate(config, given) if config.training.only_evaluate else _train(config)

    return run_command(command)


def evaluate_main(argv: Sequence[str], *, prog: str) -> int:
    """Evaluate a checkpoint: `main` with ``--only_evaluate``, and a help that shows what matters for it."""

    def command() -> int:
        given = parse_settings(
            argv,
            prog=prog,
            description="Evaluate a checkpoint on validation images. Needs --checkpoint, --val_images and "
            "--val_annotations. The settings of the model come from the checkpoint. Other settings of training are "
            "accepted, so that its YAML file serves here too, and have no effect.",
            shown=EVALUATION_HELP,
        )
        return _evaluate(build_config(given), given)

    return run_command(command)


def _train(config: Config) -> int:
    _require(config, TRAINING_FILES, purpose="training")
    configure_logging()
    from lightning.pytorch.callbacks import LambdaCallback

    from dino_detector.analysis.tables import metrics_table
    from dino_detector.training.checkpoints import StoppedByUser
    from dino_detector.training.fit import fit

    def write_settings(trainer, module) -> None:
        if trainer.is_global_zero:
            write_config(config, config.training.output_dir / "config.yaml")

    try:
        metrics = fit(config, callbacks=[LambdaCallback(on_fit_start=write_settings)])
    except StoppedByUser as stop:
        return report_interruption(str(stop))
    print(metrics_table(metrics))
    return 0


def _evaluate(config: Config, given: Mapping[str, Given]) -> int:
    _require(config, EVALUATION_FILES, purpose="evaluation")
    configure_logging()
    from dino_detector.analysis.tables import metrics_table
    from dino_detector.training.fit import evaluate

    metrics = evaluate(config, dino_model=config.backbone.dino_model if "dino_model" in given else None)
    path = config.training.output_dir / "val_metrics.json"
    metrics.write(path, checkpoint=str(config.training.checkpoint))
    print(metrics_table(metrics))
    print(f"\nThe numbers are in {path}")
    return 0


def _require(config: Config, names: Sequence[str], *, purpose: str) -> None:
    """Raise `InputError` for files that the command needs and the user did not name."""
    settings = config.flat()
    missing = [f"--{name}" for name in names if settings[name] is None]
    if missing:
        listed = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
        raise InputError(f"{purpose} needs {listed}; see --help")


if __name__ == "__main__":
    sys.exit(main())
