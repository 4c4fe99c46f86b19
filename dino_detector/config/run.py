"""All settings of a run together: by name, converted, validated."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

from dino_detector.config.augmentation import AugmentationConfig
from dino_detector.config.cache import CacheConfig
from dino_detector.config.data import DataConfig, DownloadConfig, SubsetConfig
from dino_detector.config.evaluation import MAX_DETECTIONS, EvaluationConfig
from dino_detector.config.image_size import ImageSize
from dino_detector.config.layer_ranges import by_layer
from dino_detector.config.model import BackboneConfig, DecoderConfig
from dino_detector.config.tiling import TilingConfig
from dino_detector.config.training import DistributedConfig, LoggingConfig, LossConfig, MatchingConfig, TrainingConfig
from dino_detector.errors import InputError, did_you_mean

RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "at least 1": (
        lambda value: value >= 1,
        "num_queries query_groups decoder_layers hidden_dim num_heads feedforward_dim n_points box_head_dim lora_rank "
        "epochs batch_size accumulate_batches val_frequency debug_samples test_mini_size log_frequency "
        "log_images_frequency",
    ),
    f"at least {MAX_DETECTIONS}": (lambda value: value >= MAX_DETECTIONS, "max_detections"),
    "at least 1, or null": (
        lambda value: value is None or value >= 1,
        "num_classes world_size lora_layers cache_views",
    ),
    "at least 0": (
        lambda value: value >= 0,
        "set_cost_class set_cost_bbox set_cost_giou set_cost_quality loss_weight_class loss_weight_bbox "
        "loss_weight_giou weight_decay gradient_clip num_workers ema_warmup early_stopping_patience denoising_queries "
        "neck_blocks",
    ),
    "0, or at least 1": (lambda value: value == 0 or value >= 1, "focal_gamma"),  # between, its gradient is unbounded
    "at least 0 and below 1": (
        lambda value: 0 <= value < 1,
        "lora_dropout decoder_dropout warmup_fraction ema_decay multi_scale early_stopping_min_delta",
    ),
    "between 0 and 1": (
        lambda value: 0 <= value <= 1,
        "zoom_out_probability crop_probability flip_probability photometric_probability mosaic_probability "
        "copy_paste_probability no_augment_fraction repeat_threshold",
    ),
    "at least 0 and below 2 ** 32": (lambda value: 0 <= value < 2**32, "seed coco_mini_seed"),
    "above 0": (lambda value: value > 0, "learning_rate debug_lr lora_alpha max_megapixels"),
    "above 0, or null": (lambda value: value is None or value > 0, "backbone_learning_rate white_level"),
    "above 0 and at most 1, or null": (lambda value: value is None or 0 < value <= 1, "layer_decay"),
}
"""what is wanted of settings: the test, and their names"""

LARGEST_SCALE = 100
"""factor of `scale_range`, at which an image shows a ten thousandth of itself"""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    @classmethod
    def from_flat(cls, settings: dict[str, Any]) -> Config:
        """Build from setting names, as a checkpoint or YAML file has them. Presets have to be among them.

        Raises:
            InputError: for a name that is no setting (the nearest is suggested) or a value out of range.
        """
        owner = {name: (group.name, hint) for group in dataclasses.fields(cls) for name, hint in _hints(group).items()}
        chosen: dict[str, dict[str, Any]] = {group.name: {} for group in dataclasses.fields(cls)}
        for name, value in settings.items():
            if name not in owner:
                raise InputError(f"unknown setting {name!r}{did_you_mean(name, owner)}")
            group, hint = owner[name]
            chosen[group][name] = _converted(name, value, hint)
        config = cls(**{group.name: group.default_factory(**chosen[group.name]) for group in dataclasses.fields(cls)})
        config.validate()
        return config

    def flat(self) -> dict[str, Any]:
        """Every setting by name, in plain Python types that YAML, JSON and ``torch.load(weights_only=True)`` read."""
        settings: dict[str, Any] = {}
        for group in dataclasses.fields(self):
            values = getattr(self, group.name)
            settings |= {item.name: getattr(values, item.name) for item in dataclasses.fields(values)}
        plain = {Path: str, ImageSize: str, type(Path()): str}
        return {name: plain.get(type(value), lambda same: same)(value) for name, value in settings.items()}

    def replace(self, **settings: Any) -> Config:
        """A copy with other values for some settings, by their flat names."""
        return Config.from_flat(self.flat() | settings)

    def validate(self) -> None:
        """Raise `InputError` for the first setting that is out of range."""
        settings = self.flat()

        def require(holds: bool, name: str, wanted: str) -> None:
            if not holds:
                raise InputError(f"{name} must be {wanted}, not {settings[name]!r}")

        for wanted, (holds, names) in RANGES.items():
            for name in names.split():
                require(holds(settings[name]), name, wanted)
        require(settings["denoising_queries"] != 1, "denoising_queries", "0, or at least 2: they come in pairs")
        for name, wanted in (("lora_rank_pattern", "ranks of at least 1"), ("lora_alpha_pattern", "values above 0")):
            require(all(value > 0 for value in by_layer(settings[name], setting=name).values()), name, wanted)
        cooldown, warmup = settings["cooldown_fraction"], settings["warmup_fraction"]
        if cooldown is not None:
            falls_at_once = settings["schedule"] == "cosine"
            require(not falls_at_once, "cooldown_fraction", "null with schedule cosine, which falls after its warm-up")
            wanted = f"above 0 and at most {1 - warmup:g}, with warmup_fraction {warmup:g}"
            require(cooldown > 0 and warmup + cooldown <= 1, "cooldown_fraction", wanted)
        require(0 < settings["focal_alpha"] < 1, "focal_alpha", "between 0 and 1")
        require(len(settings["lora_targets"]) > 0, "lora_targets", "at least one projection")
        layers = settings["feature_layers"]
        require(layers is None or len(layers) > 0, "feature_layers", "at least one layer, or null")
        factors = settings["scale_range"]
        require(
            len(factors) == 2 and 0 < factors[0] <= factors[1] <= LARGEST_SCALE,
            "scale_range",
            f"two factors above 0 and at most {LARGEST_SCALE}, the smaller first",
        )
        scales = settings["feature_scales"]
        require(
            len(scales) > 0 and all(scale in (0.25, 0.5, 1, 2, 4) for scale in scales),
            "feature_scales",
            "a list of 0.25, 0.5, 1, 2 or 4",
        )
        decoder = self.decoder
        require(
            decoder.hidden_dim % decoder.num_heads == 0, "hidden_dim", f"a multiple of num_heads ({decoder.num_heads})"
        )
        require(decoder.hidden_dim % 4 == 0, "hidden_dim", "a multiple of 4, for sine encodings of two axes")
        require(
            self.backbone.backbone_weights == "random" or not self.backbone.backbone_architecture,
            "backbone_architecture",
            "left out unless backbone_weights is random",
        )
        if self.subset.debug and self.subset.use_coco_mini:
            raise InputError("debug and use_coco_mini both choose the training images; give one of them")
        if self.subset.coco_mini_indices_file is not None and not self.subset.use_coco_mini:
            raise InputError("coco_mini_indices_file is a subset of use_coco_mini; give that too")
        require(
            re.fullmatch(r"env://|tcp://[^/:]+:\d{1,5}", settings["dist_url"]) is not None,
            "dist_url",
            "env:// or tcp://HOST:PORT, such as tcp://127.0.0.1:29500",
        )
        if self.logging.log_images and not set(self.logging.logger) - {"csv"}:
            raise InputError("log_images needs a logger that shows images: tensorboard, wandb or mlflow")
        require(
            re.fullmatch(r"[\w.+ -]+", settings["experiment_name"] or "-") is not None,
            "experiment_name",
            "letters, digits, spaces and . _ + - only, since it names a folder",
        )


def _hints(group: dataclasses.Field) -> dict[str, Any]:
    return typing.get_type_hints(group.default_factory)


def _converted(name: str, value: Any, hint: Any) -> Any:
    """The value in the type of its setting: paths and sizes may be given as text, whole numbers for any number."""
    kinds = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if ImageSize in kinds and not (value is None and NoneType in kinds):
        return ImageSize.parse(value, name)
    if Path in kinds and isinstance(value, str):
        return Path(value)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise InputError(
                f"{name} must be one of {', '.join(choices)}, not {value!r}{did_you_mean(str(value), choices)}"
            )
        return value
    if typing.get_origin(hint) is list and typing.get_origin(typing.get_args(hint)[0]) is Literal:
        choices = typing.get_args(typing.get_args(hint)[0])
        if not isinstance(value, list) or not all(one in choices for one in value):
            raise InputError(f"{name} must be a list of {', '.join(sorted(choices))}, not {value!r}")
        return value
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        kind = typing.get_args(hint)[1]
        return {str(key): one if kind is Any else _converted(name, one, kind) for key, one in value.items()}
    if float in kinds and type(value) is int:
        return float(value)
    plain = tuple(typing.get_origin(kind) or kind for kind in kinds)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in plain)
        raise InputError(f"{name} must be of type {wanted}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value}")
    return value
