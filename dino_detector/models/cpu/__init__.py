"""Faster equivalents of the network's modules for a CPU, behind `optimize_for_cpu`.

`python -m benchmarks.speed.cpu_parts` measures the gain of each part: the time without it, divided by the time with it.
On two cores of an AMD EPYC without bf16 instructions, in float32, medians of nine rounds on 1 December 2026: packed
linear layers 1.06 for an image, the heap 1.05 for a training step, query attention 0.99 and depth-wise convolutions
0.91. The last two therefore act in bf16 alone, where this machine can't measure them.
"""

from torch import nn
from transformers import PreTrainedModel

from dino_detector.models.cpu.attention import CPU_ATTENTION, UnfusedAttention
from dino_detector.models.cpu.depthwise import DepthwiseConv2d
from dino_detector.models.detr_decoder import DecoderLayer


def optimize_for_cpu(detector: nn.Module) -> None:
    """Replace attention and depth-wise convolutions of a detector on the CPU; parameters and their names stay.

    Results stay the same up to rounding.
    """
    for module in detector.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation(CPU_ATTENTION)
        elif isinstance(module, DecoderLayer):
            module.self_attention.__class__ = UnfusedAttention
        elif type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
            module.__class__ = DepthwiseConv2d
            module.align_weight()
