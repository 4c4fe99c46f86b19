"""The command ``evaluate``: metrics of a checkpoint, and its detections in test images."""

from __future__ import annotations

import logging
import sys
from collections.abc import Set
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dino_detector.commands.frame import command, is_main_process
from dino_detector.config import Config
from dino_detector.config.yaml_text import write_config
from dino_detector.errors import InputError
from dino_detector.storage.output_folder import locked, make_room
from dino_detector.terminal import with_headings

if TYPE_CHECKING:
    from dino_detector.structures.evaluation_files import EvaluationFiles
    from dino_detector.training.evaluation import Evaluation
    from dino_detector.training.run_data import ReadData

log = logging.getLogger(__name__)

EVALUATION_HELP = {
    **dict.fromkeys(
        (
            *("data", "val_images", "val_annotations", "testdev_images", "download_val_data", "download_test_data"),
            *("data_dir", "coco_url", "coco_checksums", "num_classes", "num_workers", "batch_size", "precision"),
            *("max_megapixels", "max_detections", "by_name", "skip_unreadable"),
            *("coco_mini_seed", "coco_mini_indices_file"),
            *("test_mini", "test_mini_size", "device", "distributed", "world_size", "dist_url"),
            *("tile_size", "tile_overlap"),
        ),
        "",
    ),
    "checkpoint": "checkpoint to evaluate",
    "val_fraction": "evaluate on the validation images that a training with this fraction took from its images",
    "seed": "seed that chooses the images of --test_mini (default: 42)",
    "use_coco_mini": "evaluate only on the validation images of the COCO mini",
    "coco_mini_size": "validation images: 1,000 for 1k, 5,000 for 5k, all for 10k or if there are fewer (default: 1k)",
    "dino_model": "name or folder of the base model, if it is not the model that the checkpoint names",
    "output_dir": "folder for the metrics and the detections (default: outputs)",
}
"""settings that evaluation reads; a text replaces the help of training where that does not fit"""


class Evaluated(NamedTuple):
    """An evaluation and its files; None for files without validation or test images."""

    found: Evaluation
    files: EvaluationFiles | None
    test_predictions: Path | None


def evaluate_run(config: Config, given: Set[str]) -> None:
    """Evaluate a checkpoint on validation images, and detect in test images that have no annotations.

    Needs --checkpoint, and DATA, or --val_images with --val_annotations, or --testdev_images. The settings of the
    model come from the checkpoint. Other settings of training are accepted and have no effect, so that the YAML file of
    a training serves here too.
    """
    evaluated = evaluate_and_write(config, given)
    if evaluated is not None:
        _print(evaluated)


main = command(Config, shown=EVALUATION_HELP)(evaluate_run)


def evaluate_and_write(config: Config, given: Set[str], *, read_data: ReadData | None = None) -> Evaluated | None:
    """Evaluate the checkpoint of the settings and write the results; return None in further processes of the run.

    ``given`` names the settings that the user gave. ``read_data`` replaces `read_run_data`, for data that is no file.

    Raises:
        InputError: there is no checkpoint, or it or the data is wrong.
    """
    training = config.training
    if training.checkpoint is None or training.skip_checkpoint_load:
        skipped = " and no --skip_checkpoint_load" if training.skip_checkpoint_load else ""
        raise InputError(f"evaluation needs --checkpoint{skipped}; see --help")
    read_data = read_data or find_data(config, training=False)
    with locked(training.output_dir, "evaluation") if is_main_process() else nullcontext():
        return _evaluate_into(training.output_dir, with_indices_file(config, given), given, read_data)


def find_data(config: Config, *, training: bool) -> ReadData:
    """Find the files of a run, and return the function that reads them.

    Raises:
        InputError: a split is missing, or is given twice.
    """
    from dino_detector.training.data_paths import find_paths
    from dino_detector.training.run_data import read_run_data

    return partial(read_run_data, paths=find_paths(config, training=training))


def _evaluate_into(folder: Path, config: Config, given: Set[str], read_data: ReadData) -> Evaluated | None:
    """Evaluate and write the results; the caller holds the lock of the folder."""
    from dino_detector.structures.evaluation_files import EvaluationFiles
    from dino_detector.training.evaluation import evaluate, write_test_results
    from dino_detector.training.run_data import EVALUATED_ANNOTATIONS, write_items

    dino_model = config.backbone.dino_model if "dino_model" in given else None
    found = evaluate(config, dino_model=dino_model, read_data=read_data)
    if not is_main_process():
        return None
    _warn_of_model_settings(config, given, found.config)
    written, files, path = ["evaluation.yaml", *(subset.file_name for subset in found.data.subsets)], None, None
    if found.metrics is not None:
        val = found.data.val
        files = EvaluationFiles.of(folder, "", images=val.folder, annotations=val.annotations.path)
        written += [files.metrics.name, files.predictions.name]
        written += [] if val.items is None else [EVALUATED_ANNOTATIONS]
    written += ["testdev_*.json", "test_mini_*_indices.json"] if found.data.test is not None else []
    make_room(folder, written)
    found.data.write_subsets(folder)
    write_items(found.data.val)
    write_config(found.config, folder / "evaluation.yaml")
    if files is not None:
        facts = {"checkpoint": str(config.training.checkpoint), "precision": found.config.training.precision}
        files.write(found.metrics, found.results, **facts)
    if found.data.test is not None:
        path = write_test_results(found.test_results, found.data.test.annotations, folder)
    return Evaluated(found, files, path)


def _print(evaluated: Evaluated) -> None:
    """Print the metrics and where the files are; raise `InputError` at the end if a test image can't be read."""
    from dino_detector.analysis.tables import metrics_table

    found, files, path = evaluated
    if files is not None:
        print(with_headings(metrics_table(found.metrics), sys.stdout))
        print(f"\nThe numbers are in {files.metrics}, the detections in {files.predictions}")
    if path is not None:
        test = found.data.test
        read = len(test.annotations.images) + len(test.unreadable) - len(found.unreadable)
        print(f"{len(found.test_results):,} detections in {read:,} test images are in {path}")
    for reason in found.unreadable[1:]:
        log.warning("%s", reason)
    if found.unreadable:
        others = f"; {len(found.unreadable) - 1} more could not be read" if len(found.unreadable) > 1 else ""
        raise InputError(f"{found.unreadable[0]}{others}; the detections in all other test images are written")


def _warn_of_model_settings(config: Config, given: Set[str], used: Config) -> None:
    """Warn of settings that the user gives although the checkpoint decides them."""
    from dino_detector.training.resuming import MODEL

    wanted, values = config.flat(), used.flat()
    decided = MODEL | {"image_size", "resize_mode", "lightweight"}
    for name in sorted(given & decided - {"dino_model"}):
        if wanted[name] != values[name]:
            log.warning("--%s comes from the checkpoint: %s, not %s", name, values[name], wanted[name])


def with_indices_file(config: Config, given: Set[str]) -> Config:
    """Return the config with the size and seed in an indices file of the COCO mini, unless the user gives them."""
    path = config.subset.coco_mini_indices_file
    if path is None:
        return config
    from dino_detector.data.coco.subsets import Subset

    subset = Subset.read(path)
    held = {"coco_mini_size": subset.size, "coco_mini_seed": subset.seed}
    try:
        return config.replace(**{name: value for name, value in held.items() if name not in given})
    except InputError as error:
        raise InputError(f"{path}: holds {subset.name}, which is no COCO mini; {error}") from error
