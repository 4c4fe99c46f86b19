"""Settings of a tiny decoder."""

from __future__ import annotations

from typing import Any

from dino_detector.config import DecoderConfig

TINY_DECODER: dict[str, Any] = {
    "num_queries": 5,
    "two_stage": False,
    "decoder_layers": 2,
    "hidden_dim": 16,
    "num_heads": 4,
    "feedforward_dim": 24,
    "n_points": 2,
    "feature_scales": [1.0],
    "box_head_dim": 12,
}
TINY_DETECTOR = {"image_size": "56x84", "lora_layers": 2, "lora_rank": 2, **TINY_DECODER}


def tiny_decoder(**changes: Any) -> DecoderConfig:
    """Return settings of a decoder with two levels, and without denoising queries."""
    levels = {"query_groups": 1, "denoising_queries": 0, "feature_scales": [2.0, 1.0]}
    return DecoderConfig(**TINY_DECODER | levels | changes)
