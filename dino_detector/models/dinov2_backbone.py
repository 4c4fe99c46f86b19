"""Frozen DINOv2 from Hugging Face, with LoRA by PEFT, split into a trunk without gradient and a tail that trains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from dino_detector.config import BackboneConfig
from dino_detector.errors import InputError
from dino_detector.models.adapters import inject_adapters
from dino_detector.models.dinov2_base import load_pretrained, model_config_of, random_architecture, untrained

FEATURES = 4
"""number of feature layers by default; a backbone with fewer layers uses all of them"""


class Tokens(NamedTuple):
    """The trunk's output: everything that the tail needs, and everything that a trunk cache stores.

    Attributes:
        hidden: ``[B, 1+R+h*w, D]``, output of the last trunk layer: CLS, R registers, patches row by row.
        earlier: ``[B, 1+R+h*w, D]`` each, outputs of the feature layers inside the trunk, by layer.
        grid: number of patches ``(h, w)``.
    """

    hidden: Tensor
    earlier: dict[int, Tensor]
    grid: tuple[int, int]


class Dinov2Backbone(nn.Module):
    """DINOv2, split into trunk and tail.

    The trunk holds the embeddings and all layers below the first layer that trains. It is frozen and runs in evaluation
    mode, unless ``train_backbone`` is full: then it holds the embeddings alone, and they train.
    ``state_dict()`` leaves out frozen parameters where the base model can be loaded again by its name.

    Attributes:
        model: a `Dinov2Model` or `Dinov2WithRegistersModel`.
        depth: number of layers, up to the last feature layer.
        run_layer: runs a layer on ``[B, T, D]``; a `LayerCopies` runs a faster copy of the layer.
    """

    def __init__(self, model: PreTrainedModel, config: BackboneConfig) -> None:
        super().__init__()
        self.model = model
        trainable = config.train_backbone
        lora_layers = config.lora_layers if trainable == "lora" else None
        layers = len(model.encoder.layer)
        self.feature_layers = _select_feature_layers(config.feature_layers, depth=layers, adapted=lora_layers)
        self.depth = depth = self.feature_layers[-1] + 1
        model.encoder.layer = model.encoder.layer[:depth]  # the detector does not use later layers
        self.frozen_embeddings = trainable != "full"
        self.trunk_depth = trunk_depth(config, depth)
        self.patch_size: int = model.config.patch_size
        self.hidden_size: int = model.config.hidden_size
        self.num_prefix_tokens = 1 + getattr(model.config, "num_register_tokens", 0)
        self.base_is_named = config.backbone_weights == "pretrained"
        self._positions: dict[tuple[int, int], Tensor] = {}
        self.run_layer: Callable[[nn.Module, Tensor], Tensor] = nn.Module.__call__
        self.register_state_dict_post_hook(_drop_base_weights)
        self.register_load_state_dict_post_hook(_expect_no_base_weights)
        model.embeddings.mask_token = None  # only DINOv2's own pretraining uses it
        if trainable != "full":
            model.requires_grad_(False)
        if trainable == "lora":
            inject_adapters(model, config, layers=range(self.trunk_depth, depth))
        self.train(self.training)

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter by its full name; -1 for the embeddings, ``depth`` for the last norm."""
        if match := re.match(r"model\.encoder\.layer\.(\d+)\.", name):
            return int(match[1])
        return -1 if name.startswith("model.embeddings.") else self.depth

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """Return a map ``[B, D, h, w]`` for each feature layer, in layer order, from images ``[B, 3, H, W]``."""
        return self.tail(self.trunk(pixel_values))

    def trunk(self, pixel_values: Tensor, *, keep: Iterable[int] | None = None) -> Tokens:
        """Run the trunk on normalised images ``[B, 3, H, W]``; H and W are multiples of the patch.

        ``keep`` names layers whose outputs `Tokens.earlier` holds; None means the feature layers.
        """
        kept = self.feature_layers if keep is None else keep
        height, width = pixel_values.shape[-2:]
        assert height % self.patch_size == 0 == width % self.patch_size, (height, width)
        grid = (height // self.patch_size, width // self.patch_size)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_embeddings):
            hidden = self._embed(pixel_values, grid)
            hidden, earlier = self._run(hidden, range(self.trunk_depth), keep=kept)
        return Tokens(hidden, earlier, grid)

    def tail(self, tokens: Tokens) -> list[Tensor]:
        """Run the layers above the trunk; return a normalised map ``[B, D, h, w]`` for each feature layer."""
        _, later = self._run(tokens.hidden, range(self.trunk_depth, self.depth), keep=self.feature_layers)
        outputs = tokens.earlier | later
        maps = []
        for layer in self.feature_layers:
            patches = self.model.layernorm(outputs[layer])[:, self.num_prefix_tokens :]  # [B, h*w, D]
            maps.append(patches.transpose(1, 2).unflatten(2, tokens.grid))  # [B, D, h, w]
        return maps

    def train(self, mode: bool = True) -> Dinov2Backbone:
        """Set training mode; a frozen trunk stays in evaluation mode: no dropout and no drop path."""
        super().train(mode)
        if self.frozen_embeddings:
            self.model.embeddings.eval()
            self.model.encoder.layer[: self.trunk_depth].eval()
        else:
            self._positions.clear()
        return self

    def share_trunk(self, other: Dinov2Backbone) -> None:
        """Replace the own trunk by the trunk of another backbone over the same base: memory holds it once."""
        self.model.embeddings = other.model.embeddings
        for index in range(self.trunk_depth):
            self.model.encoder.layer[index] = other.model.encoder.layer[index]

    @property
    def adapters_are_merged(self) -> bool:
        """Whether the base weights contain the adapters."""
        return any(isinstance(module, LoraLayer) and module.merged for module in self.modules())

    def merge_adapters(self) -> None:
        """Add the adapters to the base weights: inference no longer computes them. Merging twice does nothing."""
        for module in self.modules():
            if isinstance(module, LoraLayer) and not module.merged:
                module.merge()

    def unmerge_adapters(self) -> None:
        """Undo `merge_adapters`."""
        for module in self.modules():
            if isinstance(module, LoraLayer) and module.merged:
                module.unmerge()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Dinov2Backbone:
        """Move or convert the weights; PEFT would leave behind the state that undoes a merge of DoRA."""
        merged = self.adapters_are_merged
        self.unmerge_adapters()
        self._positions.clear()
        super()._apply(fn, recurse)
        if merged:
            self.merge_adapters()
        return self

    def _run(self, hidden: Tensor, layers: range, *, keep: Iterable[int]) -> tuple[Tensor, dict[int, Tensor]]:
        kept = {}
        for index in layers:
            hidden = self.run_layer(self.model.encoder.layer[index], hidden)
            if index in keep:
                kept[index] = hidden
        return hidden, kept

    def _embed(self, pixel_values: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embed patches like the model's own embeddings, with position tables that are interpolated once per size."""
        embeddings = self.model.embeddings
        patches = embeddings.patch_embeddings(pixel_values)  # [B, h*w, D]
        cls_token = embeddings.cls_token.expand(len(patches), -1, -1)
        tokens = torch.cat((cls_token, patches), dim=1) + self._position_table(grid)
        if self.num_prefix_tokens > 1:
            registers = embeddings.register_tokens.expand(len(patches), -1, -1)
            tokens = torch.cat((tokens[:, :1], registers, tokens[:, 1:]), dim=1)
        return embeddings.dropout(tokens)

    def _position_table(self, grid: tuple[int, int]) -> Tensor:
        """Return position embeddings ``[1, 1+h*w, D]`` of a grid; keep them while they can't change."""
        embeddings = self.model.embeddings
        trains = torch.is_grad_enabled()  # `trunk` disables gradients of frozen embeddings
        if trains:
            self._positions.clear()
        elif grid in self._positions:
            return self._positions[grid]
        with torch.inference_mode(False), torch.set_grad_enabled(trains):
            like_tokens = embeddings.position_embeddings.new_empty(1, 1 + grid[0] * grid[1], self.hidden_size)
            table = embeddings.interpolate_pos_encoding(like_tokens, *(side * self.patch_size for side in grid))
        if not trains:
            self._positions[grid] = table
        return table


def _select_feature_layers(feature_layers: list[int] | None, *, depth: int, adapted: int | None) -> list[int]:
    """Return the feature layers counted from 0, in order; negative ``feature_layers`` count from the end.

    None divides the layers into `FEATURES` equal parts and takes the last layer of each. If only the last ``adapted``
    layers have adapters, the first part begins with the trunk's last layer; adapted None means all layers or none.
    """
    if feature_layers is None:
        first = max(0, depth - 1 - (adapted or depth))
        count = min(FEATURES, depth - first)
        return [depth - 1 - (count - 1 - number) * (depth - first) // count for number in range(count)]
    outside = [layer for layer in feature_layers if not -depth <= layer < depth]
    if outside:
        raise InputError(f"feature_layers has {outside[0]}, but the backbone has layers 0 to {depth - 1}")
    return sorted({layer % depth for layer in feature_layers})


def _base_weights(module: Dinov2Backbone) -> tuple[str, ...]:
    """Return the parameters that ``state_dict()`` leaves out: the base model can be loaded again by its name."""
    return tuple(name for name, value in module.named_parameters() if module.base_is_named and not value.requires_grad)


def _drop_base_weights(module: Dinov2Backbone, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in _base_weights(module):
        del state[prefix + name]


def _expect_no_base_weights(module: Dinov2Backbone, keys: Any) -> None:
    """After ``load_state_dict()`` report no base weight as missing, and forget position tables."""
    module._positions.clear()
    left_out = _base_weights(module)
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(left_out)]


def trunk_depth(config: BackboneConfig, depth: int) -> int:
    """Return the number of frozen layers below the first layer that trains, of ``depth`` layers."""
    return {"full": 0, "none": depth, "lora": max(0, depth - (config.lora_layers or depth))}[config.train_backbone]


def has_frozen_layers(config: BackboneConfig) -> bool:
    """Return whether the trunk has a layer, from the config of the base model alone, without its weights."""
    depth = model_config_of(config).num_hidden_layers
    adapted = config.lora_layers if config.train_backbone == "lora" else None
    last = _select_feature_layers(config.feature_layers, depth=depth, adapted=adapted)[-1]
    return trunk_depth(config, last + 1) > 0


def build_backbone(config: BackboneConfig, *, architecture: dict[str, Any] | None = None) -> Dinov2Backbone:
    """Build the backbone of a config; with an ``architecture`` from a checkpoint, with random weights.

    Raises:
        InputError: where the weights can't be loaded, belong to another kind of model, or a setting does not fit.
    """
    if architecture is not None:
        model = untrained(architecture)
    elif config.backbone_weights == "random":
        model = untrained(random_architecture(config.dino_model, config.backbone_architecture).to_dict())
    else:
        model = load_pretrained(config.dino_model)
    return Dinov2Backbone(model, config)
