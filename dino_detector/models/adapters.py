"""LoRA adapters by PEFT: on which layers and projections of DINOv2 they sit, of which rank and kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import PreTrainedModel

from dino_detector.config import BackboneConfig
from dino_detector.config.layer_ranges import by_layer
from dino_detector.errors import InputError

LORA_MODULES = {
    "query": r"q_proj|query",
    "key": r"k_proj|key",
    "value": r"v_proj|value",
    "output": r"o_proj|attention\.output\.dense",
    "mlp": r"mlp\.\w+",
}
"""Module names of the projections, in the spellings of the supported transformers releases."""


class Adapters(NamedTuple):
    """Which adapters a backbone is to get. Layers are counted from 0.

    Attributes:
        targets: projections of a layer that get one, keys of `LORA_MODULES`.
        rank: r of the low-rank update B A (LoRA, https://arxiv.org/abs/2106.09685).
        alpha: the update is scaled by alpha / r.
        ranks: r of layers that have their own, by layer.
        alphas: alpha of layers that have their own, by layer.
        dropout: on the input of A, in 0..1.
        use_rslora: scale by alpha / sqrt(r) instead (https://arxiv.org/abs/2312.03732).
        use_dora: also train the norm of every row of the adapted weight, W = m (W0 + s B A) / |W0 + s B A|
            (https://arxiv.org/abs/2402.09353).
    """

    targets: Sequence[str]
    rank: int
    alpha: float
    ranks: Mapping[int, int]
    alphas: Mapping[int, float]
    dropout: float
    use_rslora: bool
    use_dora: bool

    def inject(self, model: PreTrainedModel, *, layers: range) -> None:
        """Put them on some layers of a `Dinov2Model` or `Dinov2WithRegistersModel`; nothing else of it trains then.

        Raises:
            InputError: where a layer has a rank or an alpha of its own and is not among them.
        """
        for setting, values in (("lora_rank_pattern", self.ranks), ("lora_alpha_pattern", self.alphas)):
            outside = sorted(values.keys() - layers)
            if outside:
                raise InputError(
                    f"{setting} has layer {outside[0]}, but lora_layers puts adapters on layers {layers[0]} to "
                    f"{layers[-1]}; correct one of them"
                )
        projections = "|".join(LORA_MODULES[target] for target in self.targets)
        pattern = re.compile(rf"encoder\.layer\.(\d+)\..*(?:{projections})")
        matches = {name: pattern.fullmatch(name) for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        lora = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            # PEFT's own layers_to_transform is skipped for modules that are listed by their full names.
            target_modules=[name for name, match in matches.items() if match and int(match[1]) in layers],
            rank_pattern=_of_modules(self.ranks),
            alpha_pattern=_of_modules(self.alphas),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
        )
        inject_adapter_in_model(lora, model)


def build_adapters(config: BackboneConfig) -> Adapters:
    """The adapters that a config asks for."""
    return Adapters(
        targets=config.lora_targets,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        ranks=by_layer(config.lora_rank_pattern, setting="lora_rank_pattern"),
        alphas=by_layer(config.lora_alpha_pattern, setting="lora_alpha_pattern"),
        dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


def _of_modules(values: Mapping[int, Any]) -> dict[str, Any]:
    """By the regular expressions with which PEFT looks up the full name of a module."""
    return {rf"encoder\.layer\.{layer}\..*": value for layer, value in values.items()}
