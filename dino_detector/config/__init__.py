"""Every setting of the toolkit, as dataclasses whose field names are the command-line flags and the YAML keys.

A name means one setting everywhere: `--num_queries 50`, `num_queries: 50` in a YAML file, `num_queries` in a
checkpoint and ``DecoderConfig(num_queries=50)``. Each default lives here and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dino_detector.config.data import AugmentationConfig, CacheConfig, DataConfig, DownloadConfig, SubsetConfig
from dino_detector.config.model import BackboneConfig, DecoderConfig, by_layer
from dino_detector.config.setting import ImageSize as ImageSize
from dino_detector.config.setting import convert, plain, settings_of
from dino_detector.config.training import MAX_DETECTIONS as MAX_DETECTIONS
from dino_detector.config.training import (
    DistributedConfig,
    EvaluationConfig,
    LoggingConfig,
    LossConfig,
    MatchingConfig,
    TilingConfig,
    TrainingConfig,
)
from dino_detector.errors import SettingError

LIGHTWEIGHT: dict[str, Any] = {
    "dino_model": "facebook/dinov2-small",
    "lora_rank": 8,
    "lora_alpha": 8.0,
    "lora_layers": 2,
    "num_queries": 25,
    "decoder_layers": 2,
    "hidden_dim": 192,
    "num_heads": 6,
    "feedforward_dim": 384,
    "n_points": 2,
    "feature_layers": [-3, -1],
    "feature_scales": [2.0, 1.0],
    "box_head_dim": 96,
}
"""The preset of ``--lightweight``: values that replace the defaults; explicit settings win over them."""
DEBUG: dict[str, Any] = {"epochs": 100, "augmentation": False, "val_frequency": 2}
"""The preset of ``--debug`` without the learning rate, which is ``debug_lr``."""


def preset_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the presets that the given settings turn on."""
    learning_rate = {"learning_rate": given.get("debug_lr", SubsetConfig.debug_lr)}
    return (LIGHTWEIGHT if given.get("lightweight") else {}) | (DEBUG | learning_rate if given.get("debug") else {})


@dataclass(frozen=True)
class Config:
    """All settings of a run; raises `SettingError` if one contradicts another."""

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
    def from_flat(cls, settings: Mapping[str, Any]) -> Config:
        """Build a config from values by name, as in a checkpoint or a YAML file; a preset must be among the values.

        Raises:
            SettingError: a name is unknown, or a value has another type, is out of range or contradicts another value.
        """
        groups = {group.name: group.default_factory for group in dataclasses.fields(cls)}
        values = convert(settings, settings_of(*groups.values()))
        given = {group: values.keys() & settings_of(group).keys() for group in groups.values()}
        return cls(**{name: group(**{key: values[key] for key in given[group]}) for name, group in groups.items()})

    def flat(self) -> dict[str, Any]:
        """Return all settings by name, in types that YAML, JSON and ``torch.load(weights_only=True)`` read."""
        return {name: plain(value) for group in vars(self).values() for name, value in vars(group).items()}

    def replace(self, **settings: Any) -> Config:
        """Return a copy with other values for some settings, by their flat names."""
        return Config.from_flat(self.flat() | settings)

    def __post_init__(self) -> None:
        for name in ("lora_rank_pattern", "lora_alpha_pattern"):
            by_layer(getattr(self.backbone, name), setting=name)
        width, heads = self.decoder.hidden_dim, self.decoder.num_heads
        if width % heads:
            raise SettingError("hidden_dim", f"must be a multiple of num_heads ({heads}), not {width}")
        cooldown, warmup = self.training.cooldown_fraction, self.training.warmup_fraction
        if cooldown is not None and self.training.schedule == "cosine":
            wanted = "null with schedule cosine, which falls after its warm-up"
            raise SettingError("cooldown_fraction", f"must be {wanted}, not {cooldown}")
        if cooldown is not None and not (cooldown > 0 and warmup + cooldown <= 1):
            wanted = f"above 0 and at most {1 - warmup:g}, with warmup_fraction {warmup:g}"
            raise SettingError("cooldown_fraction", f"must be {wanted}, not {cooldown}")
        architecture = self.backbone.backbone_architecture
        if architecture and self.backbone.backbone_weights != "random":
            wanted = "left out unless backbone_weights is random"
            raise SettingError("backbone_architecture", f"must be {wanted}, not {architecture}")
        if self.subset.debug and self.subset.use_coco_mini:
            raise SettingError("debug", "and use_coco_mini both choose the training images; give one of them")
        if self.subset.coco_mini_indices_file is not None and not self.subset.use_coco_mini:
            raise SettingError("coco_mini_indices_file", "needs use_coco_mini; give that too")
        if self.logging.log_images and not set(self.logging.logger) - {"csv"}:
            raise SettingError("log_images", "needs a logger that shows images: tensorboard, wandb or mlflow")
