"""The checkpoint that a run starts from: resumed, loaded as weights alone, or refused."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.config import BackboneConfig, Config, DecoderConfig, preset_settings
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, load_weights
from dino_detector.models.checkpoint import CheckpointHeader, read_checkpoint, require_checkpoint
from dino_detector.structures.categories import Categories, check_categories
from dino_detector.training.checkpoints import finished_epochs
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.early_stopping import evaluations_without_gain
from dino_detector.training.module import PLANNED_EPOCHS
from dino_detector.training.optimization import cooldown_fraction

log = logging.getLogger(__name__)

MAY_CHANGE = frozenset(
    (
        *("train_images", "train_annotations", "val_images", "val_annotations", "testdev_images", "num_classes"),
        *("download_train_data", "download_val_data", "download_test_data", "data_dir", "coco_url", "coco_checksums"),
        *("coco_mini_indices_file", "test_mini", "test_mini_size", "debug_lr", "output_dir", "num_workers"),
        *("checkpoint", "skip_checkpoint_load", "only_evaluate", "lightweight", "debug", "epochs", "val_frequency"),
        *("early_stopping_patience", "early_stopping_min_delta"),
        *("precision", "device", "dist_url", "logger", "log_dir", "experiment_name", "log_frequency"),
        *("cache_trunk", "cache_views", "max_megapixels", "max_detections"),
        *("log_layers", "log_images", "log_images_frequency", "memory_monitor", "tile_size", "tile_overlap"),
    )
)
"""Settings that a resumed run may change."""

MODEL = frozenset((*BackboneConfig.__dataclass_fields__, *DecoderConfig.__dataclass_fields__)) - {
    "lora_dropout",
    "decoder_dropout",
}
"""Settings that the weights depend on; they depend on whether ``denoising_queries`` is 0, not on its value."""


class Start(NamedTuple):
    """A checkpoint to start from.

    Attributes:
        header: header of the checkpoint.
        contents: all contents of the checkpoint.
        epochs: number of finished epochs; None for a checkpoint without training state.
    """

    header: CheckpointHeader
    contents: dict[str, Any]
    epochs: int | None

    @property
    def planned_epochs(self) -> int:
        """Epochs that the warm-up was planned for; checkpoints of 0.1.0 do not say so."""
        return self.contents.get(PLANNED_EPOCHS, self.header.config.training.epochs)

    @property
    def resumes(self) -> bool:
        """Whether the run resumes, instead of loading the weights alone."""
        return self.epochs is not None


def read_start(config: Config, categories: Categories, *, annotations: Path, data: DetectionData) -> Start | None:
    """Read and check the checkpoint that the settings name; return None if they name none or skip it.

    Args:
        config: settings of the run, with its number of processes.
        categories: classes of the training images.
        annotations: file of the classes, for messages.
        data: data of the run.

    Raises:
        InputError: The file is missing or not a checkpoint, or does not fit the run.
    """
    source = config.training.checkpoint
    if source is None:
        return None
    if config.training.skip_checkpoint_load:
        require_checkpoint(source)
        log.info("%s is not loaded (--skip_checkpoint_load); training starts from scratch", source)
        return None
    header, contents = read_checkpoint(source)
    resumes = "optimizer_states" in contents
    stored, wanted = header.config.flat(), config.flat()
    bound = stored.keys() - MAY_CHANGE if resumes else MODEL
    if header.base_fingerprint:  # the fingerprint identifies the base, which may have moved
        bound -= {"dino_model"}
    if not resumes and stored["denoising_queries"] and wanted["denoising_queries"]:
        bound -= {"denoising_queries"}
    differing = [name for name in stored if name in bound and stored[name] != wanted[name]]
    if differing and stored["lightweight"] != wanted["lightweight"] and stored["dino_model"] != wanted["dino_model"]:
        differing = list(dict.fromkeys(["dino_model", *differing]))
    if differing:
        raise InputError(f"{source}: {_mismatch(stored, wanted, differing)}")
    check_categories(header.categories, known=categories, source=source, known_source=annotations)
    check_categories(categories, known=header.categories, source=annotations, known_source=source)
    if not resumes:
        log.info("%s holds no training state: training starts from its weights", source)
        return Start(header, contents, None)
    before, now = contents.get(DetectionData.__name__, {}), data.state_dict()  # the first checkpoints of 0.1.0 lack it
    for name, noun in (("train_images", "images"), ("images_per_epoch", "images an epoch, with repeats")):
        if before.get(name, now[name]) != now[name]:
            raise InputError(
                f"{source}: was trained on {before[name]} {noun}, and {annotations} has {now[name]}, so the run can't "
                "resume; give the old file with --train_annotations, or start a new run from the weights alone: "
                f"python -c \"from dino_detector import Detector; Detector.load('{source}').save('start.pth')\", "
                "then --checkpoint start.pth"
            )
    epochs = finished_epochs(contents)
    if epochs >= config.training.epochs:
        raise InputError(f"{source}: has been trained to epoch {epochs} already; give more with --epochs")
    waited, patience = evaluations_without_gain(contents), config.training.early_stopping_patience
    if 0 < patience <= waited:
        raise InputError(
            f"{source}: has had {waited} evaluations without a better AP already; give more patience with "
            "--early_stopping_patience, or 0 to train all epochs"
        )
    log.info("resuming %s after epoch %d", source, epochs)
    before, wanted_epochs = header.config.training, config.training.epochs
    if wanted_epochs > before.epochs and epochs > before.epochs * (1 - cooldown_fraction(before)):
        log.warning(
            "the learning rate already falls towards an end at epoch %d, and now rises again; a new run with "
            "--epochs %d has no such jump",
            *(before.epochs, wanted_epochs),
        )
    return Start(header, contents, epochs)


def apply_start(detector: Detector, start: Start, *, source: Path) -> None:
    """Check the base model, and load the weights if the run does not resume.

    The trainer itself restores the weights and the training state of a resumed run.

    Raises:
        InputError: The base model is a different one, or the weights do not fit.
    """
    if start.header.base_fingerprint != detector.header.base_fingerprint:
        raise InputError(
            f"{source}: was trained on {start.header.config.backbone.dino_model!r}, and "
            f"{detector.config.backbone.dino_model!r} has other weights (the fingerprints differ); give the original "
            "model, or its present folder, with --dino_model"
        )
    if not start.resumes:
        load_weights(detector, start.contents, source=source)


def _mismatch(stored: dict[str, Any], wanted: dict[str, Any], differing: list[str]) -> str:
    """List the differing settings, and the flags that fit; a preset's flag replaces the flags that it implies."""
    listed = ", ".join(f"{name} {_written(stored[name])} (here {_written(wanted[name])})" for name in differing)
    flags = []
    rest = list(differing)
    defaults = Config().flat()
    for preset in ("lightweight", "debug"):
        if stored[preset] == wanted[preset]:
            continue
        sets = preset_settings({preset: True, "debug_lr": stored["debug_lr"]})
        fitting = sets if stored[preset] else {name: defaults[name] for name in sets}
        implied = [name for name in rest if name in fitting and stored[name] == fitting[name]]
        if implied:
            flags.append(f"--{preset} {_as_flag(stored[preset])}")
            rest = [name for name in rest if name not in implied]
    flags += [f"--{name} {_as_flag(stored[name])}" for name in rest]
    return (
        f"was trained with other settings: {listed}; to resume it give {' '.join(flags)}, "
        "or start from scratch with --skip_checkpoint_load"
    )


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_flag(value: Any) -> str:
    """Return a value as a shell takes it after its flag."""
    return shlex.quote(",".join(map(str, value)) if isinstance(value, list) else _written(value))
