"""Inference copies of the backbone's layers: weights in the compute dtype, packed for oneDNN on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from dino_detector.models.cpu.packed_linear import PackedLinear, packs


class LayerCopy(NamedTuple):
    """A copy of a layer, and the state of the layer's weights that the copy was made from.

    Attributes:
        layer: the copy, or the layer itself where a copy can't be faster.
        weights: parameters and adapters of the original.
        state: `state_of` these at the time of the copy.
    """

    layer: nn.Module
    weights: list[Tensor | LoraLayer]
    state: list[tuple[int, int] | bool]


class LayerCopies:
    """Runs a layer through its copy where no gradient is needed; set it as `Dinov2Backbone.run_layer`.

    Autocast converts float32 weights in each pass; a copy holds converted weights. On an x86 CPU the copy holds
    `PackedLinear` layers. Copy and layer give equal results, in float32 up to rounding. A copy is made at the first
    call of its layer and made anew after the weights have changed. ``copy.deepcopy`` and ``pickle`` give an object
    without copies. Compilation and export see the original layers.

    Args:
        dtype: dtype that autocast computes in; float32 without autocast.
        frozen_alone: copy only layers without trainable parameters.
    """

    def __init__(self, dtype: torch.dtype, *, frozen_alone: bool = False) -> None:
        self.dtype = dtype
        self.frozen_alone = frozen_alone
        self._copies: WeakKeyDictionary[nn.Module, LayerCopy] = WeakKeyDictionary()

    def __call__(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        """Return the layer's output for ``[B, T, D]``."""
        return self.faster(layer, hidden.device)(hidden)

    def faster(self, layer: nn.Module, device: torch.device) -> nn.Module:
        """Return the copy of a layer; the layer where gradients, tracing or another precision are on."""
        computes_in = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        if torch.is_grad_enabled() or computes_in != self.dtype:
            return layer
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return layer
        made = self._copies.get(layer)
        if made is None or made.state != state_of(made.weights):
            made = self._copies[layer] = self._copied(layer, device)
        return made.layer

    def _copied(self, layer: nn.Module, device: torch.device) -> LayerCopy:
        parameters = list(layer.parameters())
        adapters = [part for part in layer.modules() if isinstance(part, LoraLayer)]
        weights = [*parameters, *adapters]
        trains = self.frozen_alone and any(parameter.requires_grad for parameter in parameters)
        unmerged = any(not adapter.merged for adapter in adapters)
        packed = packs(self.dtype, device)
        useless = self.dtype == torch.float32 and not packed
        fast = layer if trains or unmerged or useless else _converted(layer, self.dtype, packed=packed)
        return LayerCopy(fast, weights, state_of(weights))

    def __deepcopy__(self, memo: dict[int, Any]) -> LayerCopies:
        return LayerCopies(self.dtype, frozen_alone=self.frozen_alone)

    def __reduce__(self) -> tuple[Callable[..., LayerCopies], tuple[Any, ...]]:
        return _without_copies, (self.dtype, self.frozen_alone)


def state_of(weights: list[Tensor | LoraLayer]) -> list[tuple[int, int] | bool]:
    """Return values that differ once a weight was changed, moved or replaced, or an adapter merged or unmerged."""
    return [
        weight.merged if isinstance(weight, LoraLayer) else (weight.data_ptr(), weight._version) for weight in weights
    ]


def _without_copies(dtype: torch.dtype, frozen_alone: bool) -> LayerCopies:
    return LayerCopies(dtype, frozen_alone=frozen_alone)


def _converted(layer: nn.Module, dtype: torch.dtype, *, packed: bool) -> nn.Module:
    """Return a copy of a layer whose linear layers are packed, or have their weights in ``dtype``."""
    with torch.inference_mode(False), torch.no_grad():
        layer = copy.deepcopy(layer)
        for parent in list(layer.modules()):
            for name, child in parent.named_children():
                linear = child.get_base_layer() if isinstance(child, LoraLayer) else child  # adapters are merged
                if type(linear) is nn.Linear:
                    setattr(parent, name, PackedLinear(linear, dtype) if packed else linear.to(dtype))
    return layer
