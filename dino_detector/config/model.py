"""Settings of the detector: backbone, decoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from dino_detector.config.setting import Range, setting
from dino_detector.errors import SettingError

T = TypeVar("T")

ADAPTERS = ("train_backbone", "lora")
RANKS = Range("ranks of at least 1", lambda ranks: all(rank >= 1 for rank in ranks.values()))
ALPHAS = Range("values above 0", lambda alphas: all(alpha > 0 for alpha in alphas.values()))
SCALES = Range("a list of 0.25, 0.5, 1, 2 or 4", lambda scales: scales and set(scales) <= {0.25, 0.5, 1, 2, 4})
PAIRS = Range("0, or at least 2: they come in pairs", lambda count: count == 0 or count >= 2)
WIDTH = Range("a multiple of 4, for sine encodings of two axes", lambda width: width >= 4 and width % 4 == 0)


@dataclass(frozen=True)
class BackboneConfig:
    """The DINOv2 backbone, and which part of it trains."""

    dino_model: str = "facebook/dinov2-base"
    """Hugging Face name or local folder of a DINOv2 model, with or without registers; dinov2-demo is a tiny model that
    comes with the package, for trials without a network"""
    backbone_weights: Literal["pretrained", "random"] = "pretrained"
    """random starts from untrained weights"""
    backbone_architecture: dict[str, Any] = setting({})
    """settings of transformers' Dinov2Config that replace the settings of dino_model, as JSON or YAML, such as
    {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3}; needs backbone_weights random"""
    train_backbone: Literal["lora", "full", "none"] = "lora"
    """lora trains low-rank adapters, full trains every weight of the backbone, none freezes it"""
    lora_rank: int = setting(16, at_least=1, effective_with=ADAPTERS)
    """rank r of the adapters"""
    lora_alpha: float = setting(16.0, above=0, effective_with=ADAPTERS)
    """scale of the adapters: their output is multiplied by lora_alpha / lora_rank, or with
    use_rslora by lora_alpha / sqrt(lora_rank)"""
    lora_rank_pattern: dict[str, int] = setting({}, RANKS, effective_with=ADAPTERS)
    """ranks of single layers, as JSON or YAML, such as {"6-8": 4, "11": 32}; layers are counted from 0"""
    lora_alpha_pattern: dict[str, float] = setting({}, ALPHAS, effective_with=ADAPTERS)
    """lora_alpha of single layers, in the form of lora_rank_pattern"""
    use_rslora: bool = setting(False, effective_with=ADAPTERS)
    """rank-stabilised LoRA: multiply the output of the adapters by lora_alpha / sqrt(lora_rank)"""
    use_dora: bool = setting(False, effective_with=ADAPTERS)
    """DoRA: train the magnitude of each output of an adapted projection separately from its direction"""
    lora_dropout: float = setting(0.0, at_least=0, below=1, effective_with=ADAPTERS)
    """dropout on the input of the adapters"""
    lora_targets: list[Literal["query", "key", "value", "output", "mlp"]] = setting(
        ["query", "value"], Range("at least one projection", bool), effective_with=ADAPTERS
    )
    """projections of a layer that get adapters: query, key, value, output, or mlp for all linear layers of the MLP"""
    lora_layers: int | None = setting(6, at_least=1, effective_with=ADAPTERS)
    """number of last layers that get adapters, counted back from the last of feature_layers; null adapts all. Layers
    below run without gradient"""
    feature_layers: list[int] | None = setting(None, Range("at least one layer", bool))
    """backbone layers whose outputs the neck reads, counted from 0; -1 is the last. null splits the layers, from
    the last frozen one to the last, into four equal parts and takes the last layer of each"""


@dataclass(frozen=True)
class DecoderConfig:
    """The neck, the DETR-like decoder and its heads."""

    num_queries: int = setting(100, at_least=1)
    """object queries: the largest number of objects that the detector finds in an image, each scored for every class"""
    two_stage: bool = True
    """start queries at the boxes that the feature levels propose; false starts them at learned places"""
    query_groups: int = setting(1, at_least=1)
    """groups of queries that train side by side, each with its own matching (Group DETR); only the first detects"""
    denoising_queries: int = setting(100, PAIRS)
    """largest number of denoising queries per training image, which start at noisy true boxes and learn to restore or
    reject them (DINO); 0 turns denoising off"""
    decoder_layers: int = setting(6, at_least=1)
    """decoder layers; each layer refines the boxes"""
    hidden_dim: int = setting(256, WIDTH)
    """width of the neck and the decoder"""
    num_heads: int = setting(8, at_least=1)
    """attention heads; must divide hidden_dim"""
    feedforward_dim: int = setting(1024, at_least=1)
    """width of the feed-forward network in a decoder layer"""
    decoder_dropout: float = setting(0.0, at_least=0, below=1)
    """dropout in the decoder layers"""
    use_deformable: bool = True
    """deformable attention; false attends to every position, with sine position encodings on the keys"""
    n_points: int = setting(4, at_least=1, effective_with="use_deformable")
    """sampling points of deformable attention per head and feature level"""
    feature_scales: list[float] = setting([2.0, 1.0, 0.5], SCALES)
    """feature levels, as multiples of the patch grid: powers of two from 0.25 to 4"""
    neck_blocks: int = setting(1, at_least=0)
    """convolutional blocks of the neck on each feature level"""
    box_head_dim: int = setting(256, at_least=1)
    """width of the 3-layer box head"""


def by_layer(ranges: Mapping[str, T], *, setting: str) -> dict[int, T]:
    """Return the value of each backbone layer in ranges such as ``{"0-5": 4, "7": 16}``; both ends are included.

    Raises:
        SettingError: a key of the setting is no layer and no range, or a layer is in two ranges.
    """
    values: dict[int, T] = {}
    for text, value in ranges.items():
        match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            wanted = 'neither a layer, such as "7", nor a range, such as "6-11"'
            raise SettingError(setting, f"has {text!r}, which is {wanted}")
        for layer in range(int(match[1]), int(match[2] or match[1]) + 1):
            if layer in values:
                raise SettingError(setting, f"has layer {layer} in two ranges, the second is {text!r}")
            values[layer] = value
    return values
