"""The checkpoint that a run starts from: resumed, loaded as weights alone, or refused."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.config import Config, preset_settings
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, load_weights
from dino_detector.models.checkpoint import CheckpointHeader, read_checkpoint, require_checkpoint
from dino_detector.structures.categories import check_categories
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.early_stopping import evaluations_without_gain
from dino_detector.training.optimization import cooldown_fraction
from dino_detector.training.run_files import finished_epochs

log = logging.getLogger(__name__)

MAY_CHANGE = frozenset(
    (
        *("train_images", "train_annotations", "val_images", "val_annotations", "testdev_images", "num_classes"),
        *("download_train_data", "download_val_data", "download_test_data", "num_workers", "max_megapixels"),
        *("coco_mini_indices_file", "test_mini", "test_mini_size", "debug", "debug_lr", "lightweight", "output_dir"),
        *("checkpoint", "skip_checkpoint_load", "only_evaluate", "epochs", "val_frequency", "precision", "device"),
        *("data", "by_name", "skip_unreadable"),
        *("early_stopping_patience", "early_stopping_min_delta", "dist_url"),
    )
).union(*(vars(getattr(Config(), group)) for group in ("cache", "download", "evaluation", "logging", "tiling")))
"""settings that a resumed run may change"""

MODEL = frozenset(vars(Config().backbone) | vars(Config().decoder)) - {"lora_dropout", "decoder_dropout"}
"""settings that the weights depend on; they depend on whether ``denoising_queries`` is 0, not on its value"""


class Start(NamedTuple):
    """A checkpoint to start from; ``epochs`` is None for a checkpoint without training state."""

    source: Path
    header: CheckpointHeader
    contents: dict[str, Any]
    epochs: int | None

    @property
    def resumes(self) -> bool:
        """Whether the run resumes, instead of loading the weights alone."""
        return self.epochs is not None

    def apply(self, detector: Detector) -> None:
        """Check the base model, and load the weights if the run does not resume.

        The trainer itself restores the weights and the training state of a resumed run.

        Raises:
            InputError: the base model is a different one, or the weights do not fit.
        """
        if self.header.base_fingerprint != detector.header.base_fingerprint:
            raise InputError(
                f"{self.source}: was trained on {self.header.config.backbone.dino_model!r}, and "
                f"{detector.config.backbone.dino_model!r} has other weights (the fingerprints differ); give the "
                "original model, or its present folder, with --dino_model"
            )
        if not self.resumes:
            load_weights(detector, self.contents, source=self.source)


def read_start(config: Config, data: DetectionData) -> Start | None:
    """Read and check the checkpoint that the settings name; return None if they name none or skip it.

    Raises:
        InputError: the file is missing or not a checkpoint, or does not fit the run.
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
    _check_settings(header, config, source=source, resumes=resumes)
    train = data.run_data.train.annotations
    check_categories(header.categories, known=train.categories, source=source, known_source=train.path)
    check_categories(train.categories, known=header.categories, source=train.path, known_source=source)
    if not resumes:
        log.info("%s holds no training state: training starts from its weights", source)
        return Start(source, header, contents, None)
    before, now = contents[DetectionData.__name__], data.state_dict()
    for name, noun in (("train_images", "images"), ("images_per_epoch", "images an epoch, with repeats")):
        if before[name] != now[name]:
            raise InputError(
                f"{source}: was trained on {before[name]} {noun}, and {train.path} has {now[name]}, so the run can't "
                "resume; give the old file with --train_annotations, or start a new run from the weights alone: "
                f"python -c \"from dino_detector import Detector; Detector.load('{source}').save('start.pth')\", "
                "then --checkpoint start.pth"
            )
    epochs, wanted = finished_epochs(contents), config.training.epochs
    if epochs >= wanted:
        raise InputError(f"{source}: has been trained to epoch {epochs} already; give more with --epochs")
    waited, patience = evaluations_without_gain(contents), config.training.early_stopping_patience
    if 0 < patience <= waited:
        raise InputError(
            f"{source}: has had {waited} evaluations without a better AP already; give more patience with "
            "--early_stopping_patience, or 0 to train all epochs"
        )
    log.info("resuming %s after epoch %d", source, epochs)
    planned = header.config.training
    if wanted > planned.epochs and epochs > planned.epochs * (1 - cooldown_fraction(planned)):
        text = "the learning rate already falls towards an end at epoch %d, and now rises again"
        log.warning(f"{text}; a new run with --epochs %d has no such jump", planned.epochs, wanted)
    return Start(source, header, contents, epochs)


def _check_settings(header: CheckpointHeader, config: Config, *, source: Path, resumes: bool) -> None:
    """Raise `InputError` with the flags that fit if the run changes a setting that it may not change."""
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
        aim = "resume it" if resumes else "start from its weights"
        listed = ", ".join(f"{name} {_written(stored[name])} (here {_written(wanted[name])})" for name in differing)
        raise InputError(
            f"{source}: was trained with other settings: {listed}; to {aim} give "
            f"{_flags(stored, wanted, differing)}, or start from scratch with --skip_checkpoint_load"
        )


def _flags(stored: dict[str, Any], wanted: dict[str, Any], differing: list[str]) -> str:
    """Return the flags that fit; the flag of a preset replaces the flags that it implies."""
    flags, defaults = [], Config().flat()
    for preset in ("lightweight", "debug"):
        if stored[preset] != wanted[preset]:
            sets = preset_settings({preset: True, "debug_lr": stored["debug_lr"]})
            fitting = sets if stored[preset] else {name: defaults[name] for name in sets}
            rest = [name for name in differing if name not in fitting or stored[name] != fitting[name]]
            if rest != differing:
                flags.append(preset)
            differing = rest
    return " ".join(f"--{name} {_as_flag(stored[name])}" for name in flags + differing)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_flag(value: Any) -> str:
    """Return a value as a shell takes it after its flag."""
    return shlex.quote(",".join(map(str, value)) if isinstance(value, list) else _written(value))
