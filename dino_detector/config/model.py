"""Settings of the detector: backbone, decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class BackboneConfig:
    """The DINOv2 backbone and which part of it trains."""

    dino_model: str = "facebook/dinov2-base"
    """Hugging Face name or local folder of a DINOv2 model, with or without registers, or dinov2-demo, a tiny one that
    comes with the package, to try things without a network"""
    backbone_weights: Literal["pretrained", "random"] = "pretrained"
    """random builds the architecture untrained"""
    backbone_architecture: dict[str, Any] = field(default_factory=dict)
    """with random weights, settings of transformers' Dinov2Config that replace those of dino_model, as JSON or YAML,
    such as {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3}"""
    train_backbone: Literal["lora", "full", "none"] = "lora"
    """lora trains low-rank adapters, full trains every weight, none trains nothing of the backbone"""
    lora_rank: int = 16
    """rank r of the adapters"""
    lora_alpha: float = 16.0
    """adapters are scaled by lora_alpha / lora_rank"""
    lora_rank_pattern: dict[str, int] = field(default_factory=dict)
    """ranks of some of the adapted layers instead of lora_rank, as JSON or YAML, such as {"6-8": 4, "11": 32}; layers
    are counted from 0"""
    lora_alpha_pattern: dict[str, float] = field(default_factory=dict)
    """lora_alpha of some of the adapted layers, likewise"""
    use_rslora: bool = False
    """rank-stabilised LoRA: adapters are scaled by lora_alpha / sqrt(lora_rank)"""
    use_dora: bool = False
    """DoRA: the magnitude of every output of an adapted projection trains apart from its direction"""
    lora_dropout: float = 0.0
    """dropout on the input of the adapters"""
    lora_targets: list[Literal["query", "key", "value", "output", "mlp"]] = field(
        default_factory=lambda: ["query", "value"]
    )
    """projections of a layer that get adapters; mlp means all its linear layers"""
    lora_layers: int | None = 6
    """adapt the last so many layers up to the last of feature_layers; null adapts all. Layers below run without
    gradient"""
    feature_layers: list[int] | None = None
    """backbone layers whose outputs the neck reads, counted from 0; -1 is the last. null means four, or as many as
    there are: the last of each of four equal parts of the layers from the last frozen one on"""


@dataclass(frozen=True)
class DecoderConfig:
    """The neck, the DETR-like decoder and its heads."""

    num_queries: int = 100
    """object queries: the most boxes at different places in one image, each scored for every class"""
    two_stage: bool = True
    """queries start at the boxes that the feature levels themselves propose; false starts them at learned places"""
    query_groups: int = 1
    """groups of queries that learn side by side, each matched on its own; the first alone detects. 1 trains no other"""
    denoising_queries: int = 100
    """at most so many queries of a training image start at disturbed true boxes and learn to restore or reject them;
    0 has none"""
    decoder_layers: int = 6
    """decoder layers, each of which refines the boxes"""
    hidden_dim: int = 256
    """width of the neck and the decoder"""
    num_heads: int = 8
    """attention heads; must divide hidden_dim"""
    feedforward_dim: int = 1024
    """width of the feed-forward network in a decoder layer"""
    decoder_dropout: float = 0.0
    """dropout in the decoder layers"""
    use_deformable: bool = True
    """deformable attention; false attends to every position, with sine position encodings on the keys"""
    n_points: int = 4
    """sampling points of deformable attention per head and feature level"""
    feature_scales: list[float] = field(default_factory=lambda: [2.0, 1.0, 0.5])
    """feature levels, as multiples of the patch grid: powers of two from 0.25 to 4"""
    neck_blocks: int = 1
    """convolutional blocks that every feature level goes through"""
    box_head_dim: int = 256
    """width of the 3-layer box head"""
