"""Inference copies of the backbone's layers: weights in the compute dtype, packed for oneDNN on a CPU."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from dino_detector.models.cpu.packed_linear import PackedLinear, packs


class LayerCopy(NamedTuple):
    """A copy of a layer, with the parameters and adapters of the layer and their `state_of` at the time of the copy."""

    layer: nn.Module
    weights: list[Tensor | LoraLayer]
    state: list[tuple[int, int] | bool]


class LayerCopies:
    """Runs a layer through its copy where no gradient is needed; set it as `Dinov2Backbone.run_layer`.

    Autocast converts float32 weights in each pass; a copy holds converted weights. On an x86 CPU the copy holds
    `PackedLinear` layers. Copy and layer give equal results, in float32 up to rounding. The first call of a layer makes
    its copy, and the first call after a change of its weights makes a new one. ``copy.deepcopy`` and ``pickle`` leave
    out the copies. Compilation and export see the original layers.

    Args:
        dtype: dtype that autocast computes in; float32 without autocast.
        frozen_only: copy only layers without trainable parameters.
    """

    def __init__(self, dtype: torch.dtype, *, frozen_only: bool = False) -> None:
        self.dtype = dtype
        self.frozen_only = frozen_only
        self._copies: WeakKeyDictionary[nn.Module, LayerCopy] = WeakKeyDictionary()

    def __call__(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        """Return the layer's output for ``[B, T, D]``."""
        return self.faster(layer, hidden.device)(hidden)

    def faster(self, layer: nn.Module, device: torch.device) -> nn.Module:
        """Return the copy of a layer, or the layer while gradients or tracing are on or another dtype computes."""
        computes_in = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if torch.is_grad_enabled() or traced or computes_in != self.dtype:
            return layer
        made = self._copies.get(layer)
        if made is None or made.state != state_of(made.weights):
            made = self._copies[layer] = self._copied(layer, packed=packs(self.dtype, device))
        return made.layer

    def _copied(self, layer: nn.Module, *, packed: bool) -> LayerCopy:
        """Return a copy whose linear layers are packed, or the layer itself where a copy is not faster or not safe."""
        parameters = list(layer.parameters())
        adapters = [part for part in layer.modules() if isinstance(part, LoraLayer)]
        weights = [*parameters, *adapters]
        trains = self.frozen_only and any(parameter.requires_grad for parameter in parameters)
        faster = packed or self.dtype != torch.float32
        if faster and not trains and all(adapter.merged for adapter in adapters):
            with torch.inference_mode(False), torch.no_grad():
                layer = copy.deepcopy(layer)
                for parent in list(layer.modules()):
                    for name, child in parent.named_children():
                        linear = child.get_base_layer() if isinstance(child, LoraLayer) else child
                        if type(linear) is nn.Linear:
                            fast = PackedLinear(linear, self.dtype) if packed else linear.to(self.dtype)
                            setattr(parent, name, fast)
        return LayerCopy(layer, weights, state_of(weights))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(LayerCopies, frozen_only=self.frozen_only), (self.dtype,)


def state_of(weights: list[Tensor | LoraLayer]) -> list[tuple[int, int] | bool]:
    """Return values that differ once a weight was changed, moved or replaced, or an adapter merged or unmerged."""
    return [
        weight.merged if isinstance(weight, LoraLayer) else (weight.data_ptr(), weight._version) for weight in weights
    ]
