"""Command line of training and evaluation: ``python3 -m dino_detector.train``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dino_detector.arguments import RunSettings, parse_config, write_config
from dino_detector.command import configure_logging, run_command
from dino_detector.config import Config
from dino_detector.errors import InputError

TRAINING_FILES = ("train_images", "train_annotations", "val_images", "val_annotations")
EVALUATION_FILES = ("checkpoint", "val_images", "val_annotations")
EVALUATION_HELP = {
    **dict.fromkeys(("val_images", "val_annotations", "num_workers", "batch_size", "precision", "device"), ""),
    "checkpoint": "checkpoint to evaluate",
    "dino_model": "name or folder of the base model, where it is not the one the checkpoint names",
    "output_dir": "folder for val_metrics.json and val_predictions.json (default: outputs)",
}
"""what evaluation reads of the settings, with a help of its own where that of training does not fit"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 -m dino_detector.train") -> int:
    """Train a detector, or evaluate one with ``--only_evaluate``; returns the exit code.

    Args:
        argv: the command line without the command; None takes that of the process.
        prog: the command as the user types it.
    """

    def command() -> int:
        settings = parse_config(
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Train a detector on images with COCO annotations, or evaluate one with --only_evaluate. "
            "Training needs --train_images, --train_annotations, --val_images and --val_annotations; evaluation "
            "needs --checkpoint, --val_images and --val_annotations.",
        )
        return _evaluate(settings) if settings.config.training.only_evaluate else _train(settings.config)

    return run_command(command)


def evaluate_main(argv: Sequence[str], *, prog: str) -> int:
    """Evaluate a checkpoint: `main` with ``--only_evaluate``, and a help that shows what matters for it."""

    def command() -> int:
        settings = parse_config(
            argv,
            prog=prog,
            description="Evaluate a checkpoint on validation images. Needs --checkpoint, --val_images and "
            "--val_annotations. The settings of the model come from the checkpoint. Other settings of training are "
            "accepted, so that its YAML file serves here too, and have no effect.",
            shown=EVALUATION_HELP,
        )
        return _evaluate(settings)

    return run_command(command)


def _train(config: Config) -> int:
    _require(config, TRAINING_FILES, purpose="training")
    configure_logging()
    from lightning.pytorch.callbacks import LambdaCallback

    from dino_detector.analysis.tables import metrics_table
    from dino_detector.training.fit import fit

    def write_settings(trainer, module) -> None:
        if trainer.is_global_zero:
            write_config(config, config.training.output_dir / "config.yaml")

    print(metrics_table(fit(config, callbacks=[LambdaCallback(on_fit_start=write_settings)])))
    return 0


def _evaluate(settings: RunSettings) -> int:
    config = settings.config
    _require(config, EVALUATION_FILES, purpose="evaluation")
    configure_logging()
    from dino_detector.analysis.tables import metrics_table
    from dino_detector.training.fit import evaluate
    from dino_detector.validate import write_results

    dino_model = config.backbone.dino_model if "dino_model" in settings.given else None
    metrics, results = evaluate(config, dino_model=dino_model)
    numbers = config.training.output_dir / "val_metrics.json"
    predictions = config.training.output_dir / "val_predictions.json"
    metrics.write(numbers, checkpoint=str(config.training.checkpoint))
    write_results(predictions, results)
    print(metrics_table(metrics))
    print(f"\nThe numbers are in {numbers}, the detections in {predictions}")
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
