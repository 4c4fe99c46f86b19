"""The base model: its architecture, its weights from hub or folder, and their fingerprint."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ImageProcessingMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.utils import logging as transformers_logging

from dino_detector.config import BackboneConfig, ImageSize
from dino_detector.errors import InputError, did_you_mean

log = logging.getLogger(__name__)

MODELS: dict[str, type[PreTrainedModel]] = {
    Dinov2Config.model_type: Dinov2Model,
    Dinov2WithRegistersConfig.model_type: Dinov2WithRegistersModel,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
    "giant": {"hidden_size": 1536, "num_attention_heads": 24, "num_hidden_layers": 40, "use_swiglu_ffn": True},
}
"""architectures of the published sizes, so that `--backbone_weights random` needs no network"""
PUBLISHED_NAME = re.compile(r"facebook/dinov2-(with-registers-)?(small|base|large|giant)")
PUBLISHED_PATCH = 14

SHIPPED = {"dinov2-demo": Path(__file__).parent / "demo_backbone"}
"""folders of the models in the package, by name; a folder of the user with that name wins"""


def load_pretrained(name: str) -> PreTrainedModel:
    """Load a DINOv2 model with its weights, by name or from a local folder, in float32.

    Raises:
        InputError: naming the model, the reason and remedies.
    """
    reader = MODELS[_read_config(name).model_type].from_pretrained
    model, report = _read(name, reader, dtype=torch.float32, output_loading_info=True)
    missing = sorted(set(report["missing_keys"]) - {"embeddings.mask_token"})
    if missing:
        raise InputError(
            f"dino_model {name!r} lacks {len(missing)} weights that its config.json asks for, such as {missing[0]!r}; "
            "use the config.json that belongs to the weights"
        )
    return model


def untrained(architecture: dict[str, Any]) -> PreTrainedModel:
    """Return a DINOv2 model with random weights, from the settings of its transformers config."""
    kind = MODELS[architecture["model_type"]]
    return kind(kind.config_class.from_dict(architecture))


def model_config_of(config: BackboneConfig) -> PreTrainedConfig:
    """Return the transformers config of the backbone (patch size, widths) without loading weights."""
    if config.backbone_weights == "random":
        return random_architecture(config.dino_model, config.backbone_architecture)
    return _read_config(config.dino_model)


def random_architecture(name: str, changes: dict[str, Any]) -> PreTrainedConfig:
    """Return the transformers config of a DINOv2 name or folder with some settings changed.

    Raises:
        InputError: for a setting that `Dinov2Config` lacks, or values that do not fit together.
    """
    published = PUBLISHED_NAME.fullmatch(name)
    if published:
        kind = Dinov2WithRegistersConfig if published[1] else Dinov2Config
        model_config = kind(image_size=518, patch_size=PUBLISHED_PATCH, **PUBLISHED[published[2]])
    else:
        model_config = _read_config(name)
    derived = ("stage_names", "out_features", "out_indices")  # from the number of layers
    known = {setting: value for setting, value in model_config.to_dict().items() if setting not in derived}
    for setting, value in changes.items():
        if setting not in known:
            raise InputError(f"backbone_architecture: unknown setting {setting!r}{did_you_mean(setting, known)}")
        if not isinstance(value, (int, float) if isinstance(known[setting], float) else type(known[setting])):
            raise InputError(f"backbone_architecture: {setting} must be like {known[setting]!r}, not {value!r}")
        if type(known[setting]) is int and value < 1:
            raise InputError(f"backbone_architecture: {setting} must be at least 1, not {value}")
        if setting == "hidden_act" and value not in ACT2FN:
            raise InputError(f"backbone_architecture: hidden_act {value!r} is unknown{did_you_mean(value, ACT2FN)}")
    model_config = type(model_config).from_dict(known | changes)
    if model_config.hidden_size % model_config.num_attention_heads:
        raise InputError(
            f"backbone_architecture: hidden_size {model_config.hidden_size} must be a multiple of "
            f"num_attention_heads {model_config.num_attention_heads}"
        )
    return model_config


def check_published_size(image_size: ImageSize, name: str) -> None:
    """Raise `InputError` as `check_image_size` does for a published model, without reading or fetching the model."""
    if PUBLISHED_NAME.fullmatch(name):
        check_image_size(image_size, PUBLISHED_PATCH)


def check_image_size(image_size: ImageSize, patch_size: int) -> None:
    """Raise `InputError`, naming the nearest sizes that fit, where the patch does not divide the input size."""
    if image_size.height % patch_size == 0 == image_size.width % patch_size:
        return

    def around(up: bool) -> ImageSize:
        return ImageSize(*(max(1, (side + (patch_size - 1) * up) // patch_size) * patch_size for side in image_size))

    raise InputError(
        f"image_size {image_size} is not a multiple of the backbone's patch of {patch_size} pixels; "
        f"use {around(False)} or {around(True)}"
    )


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of the base weights in module order; unmerged adapters do not change it."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            digest.update(str(tuple(parameter.shape)).encode())
            digest.update(parameter.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def image_statistics(config: BackboneConfig) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the RGB channels in the backbone's pretraining, for pixels in 0..1."""
    if config.backbone_weights == "pretrained":
        try:
            processor, _ = _read(config.dino_model, ImageProcessingMixin.get_image_processor_dict)
            return list(processor["image_mean"]), list(processor["image_std"])
        except (InputError, KeyError):
            pass  # a folder with the model alone, or without statistics: DINOv2 was trained with ImageNet's statistics
    return list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)


LONGEST_REASON = 120
"""characters of the reason of transformers that an error shows"""
UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
"""errors of transformers for a model that is absent or damaged, or whose weights do not fit its config.json"""


def _read(name: str, reader: Callable[..., Any], **options: Any) -> Any:
    """Read from a folder, the package, the local cache or the hub, in this order."""
    place = name if Path(name).is_dir() else str(SHIPPED.get(name, name))
    is_folder = Path(place).is_dir()
    transformers_logging.disable_progress_bar()  # a bar for local files is noise; a download shows one
    try:
        return reader(place, local_files_only=True, **options)
    except UNREADABLE as error:
        if is_folder:
            raise _unavailable(name, error) from error
    finally:
        transformers_logging.enable_progress_bar()
    _announce_download(name)
    try:
        return reader(place, **options)
    except UNREADABLE as error:
        raise _unavailable(name, error) from error


@lru_cache
def _announce_download(name: str) -> None:
    """Log once that a model is fetched: without a network the next line comes half a minute later."""
    log.info("%s is not on this machine; fetching it from Hugging Face", name)


def _unavailable(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    if len(reason) > LONGEST_REASON:
        reason = f"{reason[:LONGEST_REASON].rstrip(' .')}..."
    return InputError(
        f"dino_model {name!r} can't be loaded: {reason} -- remedies: try --dino_model dinov2-demo, a small model in "
        "the package; check the name; copy the model's folder here and give its path; fill the cache with "
        "'hf download NAME'; or train from scratch with --backbone_weights random --train_backbone full"
    )


def _read_config(name: str) -> PreTrainedConfig:
    model_config = _read(name, AutoConfig.from_pretrained)
    if model_config.model_type not in MODELS:
        raise InputError(f"dino_model {name!r} is a {model_config.model_type!r} model; give one of {', '.join(MODELS)}")
    return model_config
