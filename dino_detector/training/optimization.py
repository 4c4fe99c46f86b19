"""AdamW with a rate for the backbone and one for the rest, and its warm-up and cosine schedule."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from dino_detector.config import Config
from dino_detector.models.detector import Detector

FINAL_RATE = 0.01
"""Learning rate at the end of training, as a fraction of its peak."""


def build_optimizer(detector: Detector, config: Config) -> AdamW:
    """AdamW over the weights that train; matrices decay, vectors, queries and embeddings do not."""
    peak = config.training.learning_rate
    fine_tunes = config.backbone.train_backbone == "full" and config.backbone.backbone_weights == "pretrained"
    backbone_peak = config.training.backbone_learning_rate or (peak / 10 if fine_tunes else peak)
    decays = {
        id(parameter)
        for module in detector.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)) and "bias" not in name
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.startswith("backbone.") else "decoder"
            groups.setdefault((part, id(parameter) in decays), []).append(parameter)
    return AdamW(
        [
            {
                "name": part if decay else f"{part}_no_decay",
                "params": parameters,
                "lr": backbone_peak if part == "backbone" else peak,
                "weight_decay": config.training.weight_decay if decay else 0.0,
            }
            for (part, decay), parameters in groups.items()
        ]
    )


def warmup_cosine(optimizer: AdamW, *, total_steps: int, warmup_fraction: float) -> LambdaLR:
    """Linear rise over the first steps, then half a cosine down to a hundredth of the peak, step by step."""
    warmup_steps = max(1, round(total_steps * warmup_fraction))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
