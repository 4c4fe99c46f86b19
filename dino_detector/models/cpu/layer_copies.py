"""Copies of layers that do not train, with their matrices in the form that a processor multiplies by fastest."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


class LayerCopies:
    """Copies of a backbone's layers, each made when it runs first.

    In a lower precision no pass converts weights, which autocast does in each. On an x86 processor the matrices are in
    `PackedLinear`. Under autocast the numbers are those of the layer itself, in float32 equal up to rounding. A copy of
    the model has none of them, and what compiles or exports it sees the layers themselves.
    """

    def __init__(self) -> None:
        self.dtype: torch.dtype | None = None
        self.count = 0
        self._copies: dict[int, nn.Module] = {}

    def prepare(self, dtype: torch.dtype | None, count: int) -> None:
        """Copies of the first so many layers are to be used from now on, for ``dtype``; None for none."""
        self.dtype = dtype
        self.count = count
        self.clear()

    def keep(self, count: int) -> None:
        """Use copies of the first so many layers at most."""
        self.count = min(self.count, count)
        self._copies = {index: layer for index, layer in self._copies.items() if index < count}

    def clear(self) -> None:
        """Make them again, as weights have changed."""
        self._copies.clear()

    def of(self, index: int, layer: nn.Module, device: torch.device) -> nn.Module:
        """What to run in place of a layer: its copy, or itself where a gradient or another precision is asked for."""
        lower = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        wanted = lower == self.dtype and index < self.count and not torch.is_grad_enabled()
        if not wanted or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return layer
        if index not in self._copies:
            self._copies[index] = _copy(layer, lower, device)
        return self._copies[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> LayerCopies:
        """Of another model, which has its own weights."""
        return LayerCopies()

    def __reduce__(self) -> tuple[Any, ...]:
        """Likewise for another process."""
        return LayerCopies, ()


class PackedLinear(nn.Module):
    """A linear layer for inference on a CPU, whose matrix is in the blocks that oneDNN's kernels read.

    PyTorch's own layer has it reordered in each pass, which for one image takes a good part of the time of the product.
    Inductor does as much for frozen weights, by the same operators.

    Args:
        linear: the layer.
        dtype: of the matrix, and of what comes in and goes out.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.matrix = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype), None)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """From ``[..., in]`` to ``[..., out]``."""
        return torch.ops.mkldnn._linear_pointwise(inputs.to(self.dtype), self.matrix, self.bias, "none", [], "")


def packs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `PackedLinear` computes in this precision on this device."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _copy(layer: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A copy of a layer, where it can be had without changing what it computes; else the layer."""
    packed = packs(dtype, device)
    if dtype == torch.float32 and not packed:
        return layer
    if any(isinstance(part, LoraLayer) and not part.merged for part in layer.modules()):
        return layer
    with torch.inference_mode(False), torch.no_grad():
        layer = copy.deepcopy(layer)
        for parent in list(layer.modules()):
            for name, child in parent.named_children():
                if isinstance(child, LoraLayer):
                    child = child.get_base_layer()  # of merged adapters nothing is left but the weights
                if type(child) is nn.Linear:
                    setattr(parent, name, PackedLinear(child, dtype) if packed else child.to(dtype))
    return layer
