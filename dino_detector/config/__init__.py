"""Every setting of the toolkit, as dataclasses whose field names are the command-line flags and the YAML keys.

A name means one setting everywhere: `--num_queries 50`, `num_queries: 50` in a YAML file, `num_queries` in a
checkpoint and ``DecoderConfig(num_queries=50)``. Each default lives here and nowhere else.
"""

from dino_detector.config.augmentation import AugmentationConfig
from dino_detector.config.commands import (
    AnalyzeSettings,
    DataCheckSettings,
    DemoSettings,
    DownloadSettings,
    ExportSettings,
    PredictSettings,
)
from dino_detector.config.data import CacheConfig, DataConfig, DownloadConfig, SubsetConfig
from dino_detector.config.evaluation import MAX_DETECTIONS, EvaluationConfig, TilingConfig
from dino_detector.config.image_size import ImageSize
from dino_detector.config.model import BackboneConfig, DecoderConfig
from dino_detector.config.presets import DEBUG, LIGHTWEIGHT, preset_settings
from dino_detector.config.run import Config
from dino_detector.config.training import DistributedConfig, LoggingConfig, LossConfig, MatchingConfig, TrainingConfig

__all__ = [
    "DEBUG",
    "LIGHTWEIGHT",
    "MAX_DETECTIONS",
    "AnalyzeSettings",
    "AugmentationConfig",
    "BackboneConfig",
    "CacheConfig",
    "Config",
    "DataCheckSettings",
    "DataConfig",
    "DecoderConfig",
    "DemoSettings",
    "DistributedConfig",
    "DownloadConfig",
    "DownloadSettings",
    "EvaluationConfig",
    "ExportSettings",
    "ImageSize",
    "LoggingConfig",
    "LossConfig",
    "MatchingConfig",
    "PredictSettings",
    "SubsetConfig",
    "TilingConfig",
    "TrainingConfig",
    "preset_settings",
]
