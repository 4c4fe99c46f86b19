"""All settings of a run together: by name, converted, validated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dino_detector.config.augmentation import AugmentationConfig
from dino_detector.config.data import CacheConfig, DataConfig, DownloadConfig, SubsetConfig
from dino_detector.config.evaluation import EvaluationConfig, TilingConfig
from dino_detector.config.layer_ranges import by_layer
from dino_detector.config.model import BackboneConfig, DecoderConfig
from dino_detector.config.setting import check_ranges, convert, plain, settings_of
from dino_detector.config.training import DistributedConfig, LoggingConfig, LossConfig, MatchingConfig, TrainingConfig
from dino_detector.errors import SettingError


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
    def from_flat(cls, settings: Mapping[str, Any]) -> Config:
        """Build a config from values by name, as in a checkpoint or a YAML file; presets have to be among the values.

        Raises:
            SettingError: a name is unknown (the message suggests the nearest), or a value has another type or is out of
                range.
        """
        groups = {group.name: group.default_factory for group in dataclasses.fields(cls)}
        values = convert(settings, settings_of(*groups.values()))
        given = {
            group: {name: values[name] for name in settings_of(group) if name in values} for group in groups.values()
        }
        config = cls(**{name: group(**given[group]) for name, group in groups.items()})
        config.validate()
        return config

    def flat(self) -> dict[str, Any]:
        """Return all settings by name, in types that YAML, JSON and ``torch.load(weights_only=True)`` read."""
        groups = [getattr(self, group.name) for group in dataclasses.fields(self)]
        return {name: plain(getattr(group, name)) for group in groups for name in settings_of(type(group))}

    def replace(self, **settings: Any) -> Config:
        """Return a copy with other values for some settings, by their flat names."""
        return Config.from_flat(self.flat() | settings)

    def validate(self) -> None:
        """Raise `SettingError` for the first setting that is out of range or contradicts another setting."""
        for group in dataclasses.fields(self):
            check_ranges(getattr(self, group.name))
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
