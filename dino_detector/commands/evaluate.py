"""The command ``evaluate``: metrics of a checkpoint, and its detections in test images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext

from dino_detector.commands.arguments import RunSettings, parse_config, write_config
from dino_detector.commands.frame import configure_logging, is_main_process, run_command
from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.storage.output_folder import locked, make_room

log = logging.getLogger(__name__)

EVALUATION_HELP = {
    **dict.fromkeys(
        (
            *("val_images", "val_annotations", "testdev_images", "download_val_data", "download_test_data"),
            *("data_dir", "coco_url", "coco_checksums", "num_classes", "num_workers", "batch_size", "precision"),
            *("max_megapixels", "max_detections"),
            *("coco_mini_seed", "coco_mini_indices_file"),
            *("test_mini", "test_mini_size", "device", "distributed", "world_size", "dist_url"),
            *("tile_size", "tile_overlap"),
        ),
        "",
    ),
    "checkpoint": "checkpoint to evaluate",
    "seed": "seed of the choice of --test_mini (default: 42)",
    "use_coco_mini": "evaluate on the validation images of the COCO mini alone",
    "coco_mini_size": "1,000 validation images, 5,000, or all, or all where there are fewer (default: 1k)",
    "dino_model": "name or folder of the base model, where it is not the one the checkpoint names",
    "output_dir": "folder for what is written (default: outputs)",
}
"""settings that evaluation reads; a text replaces the help of training where that does not fit"""


def main(argv: Sequence[str], *, prog: str) -> int:
    """Evaluate a checkpoint, and return the exit code.

    Args:
        argv: the command line without the command.
        prog: the command as the user types it.
    """

    def command() -> int:
        settings = parse_config(
            argv,
            prog=prog,
            description="Evaluate a checkpoint on validation images, and detect in test images that have no "
            "annotations. Needs --checkpoint, and --val_images with --val_annotations or --testdev_images. The "
            "settings of the model come from the checkpoint. Other settings of training are accepted, so that its YAML "
            "file serves here too, and have no effect.",
            shown=EVALUATION_HELP,
        )
        return evaluate_settings(settings)

    return run_command(command)


def evaluate_settings(settings: RunSettings) -> int:
    """Evaluate the checkpoint that the settings name, and return the exit code."""
    training = settings.config.training
    if training.checkpoint is None or training.skip_checkpoint_load:
        skipped = " and no --skip_checkpoint_load" if training.skip_checkpoint_load else ""
        raise InputError(f"evaluation needs --checkpoint{skipped}; see --help")
    from dino_detector.training.run_data import find_paths

    find_paths(settings.config, training=False)
    configure_logging()
    with locked(training.output_dir, "evaluation") if is_main_process() else nullcontext():
        return _evaluate_into(settings)


def _evaluate_into(settings: RunSettings) -> int:
    """Evaluate and write the results; the caller holds the lock of the output folder."""
    training = settings.config.training
    from dino_detector.analysis.tables import metrics_table
    from dino_detector.structures.evaluation_files import EvaluationFiles
    from dino_detector.training.evaluation import evaluate, write_test_results

    config = with_indices_file(settings)
    dino_model = config.backbone.dino_model if "dino_model" in settings.given else None
    found = evaluate(config, dino_model=dino_model)
    if not is_main_process():
        return 0
    _tell_of_the_checkpoint(settings, found.config)
    folder = training.output_dir
    written = ["evaluation.yaml"]
    if found.metrics is not None:
        val = found.data.val
        files = EvaluationFiles.of(folder, "", images=val.folder, annotations=val.annotations.path)
        written += [files.metrics.name, files.predictions.name]
    written += ["testdev_*.json", "test_mini_*_indices.json"] if found.data.test is not None else []
    make_room(folder, written)
    found.data.write_subsets(folder)
    write_config(found.config, folder / "evaluation.yaml")
    if found.metrics is not None:
        precision = found.config.training.precision
        files.write(found.metrics, found.results, checkpoint=str(training.checkpoint), precision=precision)
        print(metrics_table(found.metrics))
        print(f"\nThe numbers are in {files.metrics}, the detections in {files.predictions}")
    if found.data.test is not None:
        test = found.data.test.annotations
        path = write_test_results(found.test_results, test, folder)
        read = len(test.images) + len(found.data.test.unreadable) - len(found.unreadable)
        print(f"{len(found.test_results):,} detections in {read:,} test images are in {path}")
    if found.unreadable:
        for reason in found.unreadable[1:]:
            log.warning("%s", reason)
        others = f"; {len(found.unreadable) - 1} more could not be read" if len(found.unreadable) > 1 else ""
        raise InputError(f"{found.unreadable[0]}{others}; the detections in all other test images are written")
    return 0


def _tell_of_the_checkpoint(settings: RunSettings, used: Config) -> None:
    """Warn about settings that the user gives although the checkpoint decides them."""
    given, values = settings.config.flat(), used.flat()
    from dino_detector.training.resuming import MODEL

    decided = MODEL | {"image_size", "resize_mode", "lightweight"}
    for name in sorted(settings.given & decided - {"dino_model"}):
        if given[name] != values[name]:
            log.warning("--%s comes from the checkpoint: %s, not %s", name, values[name], given[name])


def with_indices_file(settings: RunSettings) -> Config:
    """Return the config with the size and seed in an indices file of the COCO mini, unless the user gives them."""
    config = settings.config
    path = config.subset.coco_mini_indices_file
    if path is None:
        return config
    from dino_detector.data.coco.subsets import Subset

    subset = Subset.read(path)
    held = {"coco_mini_size": subset.size, "coco_mini_seed": subset.seed}
    try:
        return config.replace(**{name: value for name, value in held.items() if name not in settings.given})
    except InputError as error:
        raise InputError(f"{path}: holds {subset.name}, which is no COCO mini; {error}") from error
