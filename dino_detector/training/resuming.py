"""The checkpoint that a run starts from: whether it goes on with it, takes its weights, or can't use it."""

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
from dino_detector.training.data import DetectionData
from dino_detector.training.early_stopping import evaluations_without_gain
from dino_detector.training.module import PLANNED_EPOCHS
from dino_detector.training.schedule import cooldown_share

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
"""Settings that a resumed run may change; with another of the rest it would not be the same run."""

MODEL = frozenset((*BackboneConfig.__dataclass_fields__, *DecoderConfig.__dataclass_fields__)) - {
    "lora_dropout",
    "decoder_dropout",
}
"""Settings that weights are bound to; of ``denoising_queries`` it is whether there are any."""


class Start(NamedTuple):
    """A checkpoint to start from.

    Attributes:
        header: what it says of itself.
        contents: all that it holds.
        epochs: that the run behind it had finished; None where it holds no state, and the weights are taken.
    """

    header: CheckpointHeader
    contents: dict[str, Any]
    epochs: int | None

    @property
    def planned_epochs(self) -> int:
        """For how many the first of the runs behind it was meant, whose warm-up it goes on with."""
        return self.contents.get(PLANNED_EPOCHS, self.header.config.training.epochs)  # not in those of 0.1.0

    @property
    def resumes(self) -> bool:
        """Whether the run goes on."""
        return self.epochs is not None


def read_start(config: Config, categories: Categories, *, annotations: Path, data: DetectionData) -> Start | None:
    """The checkpoint of ``config``, once it is known to fit; None where there is none or it is to be skipped.

    Args:
        config: settings of the run, with its number of processes.
        categories: of the training images.
        annotations: their file, for messages.
        data: the images of the run.

    Raises:
        InputError: the file is missing or no checkpoint, or the run can't go on from it.
    """
    source = config.training.checkpoint
    if source is None:
        return None
    if config.training.skip_checkpoint_load:
        require_checkpoint(source)
        log.info("%s is not loaded (--skip_checkpoint_load); training starts anew", source)
        return None
    header, contents = read_checkpoint(source)
    resumes = "optimizer_states" in contents
    stored, wanted = header.config.flat(), config.flat()
    bound = stored.keys() - MAY_CHANGE if resumes else MODEL
    if header.base_fingerprint:  # a base that is known by its weights may have moved
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
        log.info("%s holds no training state: its weights are taken, and training starts anew", source)
        return Start(header, contents, None)
    before, now = contents.get(DetectionData.__name__, {}), data.state_dict()  # not in the first checkpoints of 0.1.0
    for name, noun in (("train_images", "images"), ("images_per_epoch", "images an epoch, with repeats")):
        if before.get(name, now[name]) != now[name]:
            raise InputError(
                f"{source}: was trained on {before[name]} {noun}, and {annotations} has {now[name]}, so the run can't "
                "go on where it was; give the former with --train_annotations, or take the weights alone into a new "
                f"run: python -c \"from dino_detector import Detector; Detector.load('{source}').save('start.pth')\", "
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
    if wanted_epochs > before.epochs and epochs > before.epochs * (1 - cooldown_share(before)):
        log.warning(
            "its learning rate has fallen towards an end at epoch %d, and goes up again for %d; a new run with "
            "--epochs %d has no such break",
            *(before.epochs, wanted_epochs, wanted_epochs),
        )
    return Start(header, contents, epochs)


def begin(detector: Detector, start: Start, *, source: Path) -> None:
    """Check that the base is the one that the checkpoint was trained on, and take the weights of one without state.

    The trainer restores those of a run that goes on together with its state.

    Raises:
        InputError: where it is another base, or the weights do not fit.
    """
    if start.header.base_fingerprint != detector.header.base_fingerprint:
        raise InputError(
            f"{source}: was trained on {start.header.config.backbone.dino_model!r}, and the weights of "
            f"{detector.config.backbone.dino_model!r} are others (their fingerprints differ); give the former, or the "
            "folder where it is now, with --dino_model"
        )
    if not start.resumes:
        load_weights(detector, start.contents, source=source)


def _mismatch(stored: dict[str, Any], wanted: dict[str, Any], differing: list[str]) -> str:
    """Which settings differ, and the flags that fit: a preset's in place of all that it explains."""
    listed = ", ".join(f"{name} {_written(stored[name])} (here {_written(wanted[name])})" for name in differing)
    flags = []
    rest = list(differing)
    defaults = Config().flat()
    for preset in ("lightweight", "debug"):
        if stored[preset] == wanted[preset]:
            continue
        sets = preset_settings({preset: True, "debug_lr": stored["debug_lr"]})
        fitting = sets if stored[preset] else {name: defaults[name] for name in sets}
        explained = [name for name in rest if name in fitting and stored[name] == fitting[name]]
        if explained:
            flags.append(f"--{preset} {_as_flag(stored[preset])}")
            rest = [name for name in rest if name not in explained]
    flags += [f"--{name} {_as_flag(stored[name])}" for name in rest]
    return (
        f"was trained with other settings: {listed}; to go on with it give {' '.join(flags)}, "
        "or start anew with --skip_checkpoint_load"
    )


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_flag(value: Any) -> str:
    """A setting as it is typed after its flag in a shell."""
    return shlex.quote(",".join(map(str, value)) if isinstance(value, list) else _written(value))
