"""LoRA adapters by PEFT on the linear layers of DINOv2."""

from __future__ import annotations

import re
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import PreTrainedModel

from dino_detector.config import BackboneConfig
from dino_detector.config.model import by_layer
from dino_detector.errors import InputError

LORA_MODULES = {
    "query": r"q_proj|query",
    "key": r"k_proj|key",
    "value": r"v_proj|value",
    "output": r"o_proj|attention\.output\.dense",
    "mlp": r"mlp\.\w+",
}
"""module names of each of `BackboneConfig.lora_targets`, as the supported transformers releases spell them"""


def inject_adapters(model: PreTrainedModel, config: BackboneConfig, *, layers: range) -> None:
    """Put adapters on some layers of a `Dinov2Model` or `Dinov2WithRegistersModel`, and freeze everything else.

    An adapter of rank r adds alpha / r B A to its weight (LoRA, https://arxiv.org/abs/2106.09685), or alpha / sqrt(r)
    B A (rsLoRA, https://arxiv.org/abs/2312.03732). DoRA (https://arxiv.org/abs/2402.09353) also trains the norm m of
    every row of the adapted weight W0 + s B A: W = m (W0 + s B A) / |W0 + s B A|.

    Raises:
        InputError: a layer has a rank or an alpha of its own, but gets no adapter.
    """
    patterns: dict[str, dict[str, Any]] = {}
    for setting in ("lora_rank_pattern", "lora_alpha_pattern"):
        values = by_layer(getattr(config, setting), setting=setting)
        patterns[setting] = {rf"encoder\.layer\.{layer}\..*": value for layer, value in values.items()}
        if outside := sorted(values.keys() - layers):
            raise InputError(
                f"{setting} has layer {outside[0]}, but lora_layers puts adapters on layers {layers[0]} to "
                f"{layers[-1]}; correct one of them"
            )
    projections = "|".join(LORA_MODULES[target] for target in config.lora_targets)
    pattern = re.compile(rf"encoder\.layer\.(\d+)\..*(?:{projections})")
    matches = {name: pattern.fullmatch(name) for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        # PEFT ignores layers_to_transform for modules that are listed by their full names.
        target_modules=[name for name, match in matches.items() if match and int(match[1]) in layers],
        rank_pattern=patterns["lora_rank_pattern"],
        alpha_pattern=patterns["lora_alpha_pattern"],
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )
    inject_adapter_in_model(lora, model)
