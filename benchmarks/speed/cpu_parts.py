"""Measure what each part of `dino_detector.models.cpu` brings: a picture and a training step with and without it.

    python -m benchmarks.speed.cpu_parts
    python -m benchmarks.speed.cpu_parts --only attention --precision bf16

The detector is the one of `benchmarks.speed`, with random weights; a training step has two images. A round measures a
part without it and then with it. A gain is the median over the rounds of the ratio of both times: 1.10 means that a
detector without the part takes 1.10 times as long. Processor times on one thread; ``attention`` changes bf16 alone.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.common import machine
from benchmarks.common.command_line import command_parser
from benchmarks.speed.ours import TrainingStep
from benchmarks.speed.rows import INPUT, SIZES
from dino_detector import Detector
from dino_detector.commands.frame import run_command
from dino_detector.models.cpu import heap
from dino_detector.models.cpu.attention import CPU_ATTENTION, UnfusedAttention
from dino_detector.models.cpu.depthwise import DepthwiseConv2d
from dino_detector.models.device import LOW_PRECISION, resolve_precision
from dino_detector.models.layer_copies import LayerCopies


def _packed_linear(detector: Detector, on: bool) -> None:
    computes_in = LOW_PRECISION.get(detector.config.training.precision, torch.float32)
    copies = LayerCopies(computes_in, frozen_only=detector.training)
    detector.backbone.run_layer = copies if on else nn.Module.__call__


def _attention(detector: Detector, on: bool) -> None:
    detector.backbone.model.set_attn_implementation(CPU_ATTENTION if on else "sdpa")


def _query_attention(detector: Detector, on: bool) -> None:
    for layer in detector.decoder.layers:
        layer.self_attention.__class__ = UnfusedAttention if on else nn.MultiheadAttention


def _depthwise(detector: Detector, on: bool) -> None:
    for module in detector.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.__class__ = DepthwiseConv2d if on else nn.Conv2d


def _heap(detector: Detector, on: bool) -> None:
    if on:
        heap.keep_freed_memory()
    else:  # glibc's own adaptation ends at these values
        for parameter, value in ((heap.MMAP_THRESHOLD, 2**25), (heap.TRIM_THRESHOLD, 2**26)):
            ctypes.CDLL(None).mallopt(parameter, value)


PARTS: dict[str, tuple[Callable[[Detector, bool], None], tuple[str, ...]]] = {
    "packed_linear": (_packed_linear, ("picture", "step")),
    "attention": (_attention, ("picture", "step")),
    "query_attention": (_query_attention, ("step",)),
    "depthwise": (_depthwise, ("step",)),
    "heap": (_heap, ("picture", "step")),
}
"""functions that switch a part on or off, and the calls that the part makes faster"""


def gains(names: Sequence[str], settings: dict[str, Any], *, batch: int, rounds: int) -> dict[tuple[str, str], float]:
    """Return the gain of each part in each call that it makes faster."""
    training = TrainingStep(settings, batch=batch, boxes=10)
    predicting = TrainingStep(settings, batch=1, boxes=1).detector.optimize(precision=settings["precision"])
    image = torch.zeros(3, *predicting.config.data.image_size, dtype=torch.uint8)
    calls: dict[str, tuple[Detector, Callable[[], Any]]] = {
        "picture": (predicting, lambda: predicting.predict(image)),
        "step": (training.detector, lambda: training.update(training.loss(training.predict()))),
    }
    ratios: dict[tuple[str, str], list[float]] = {(name, call): [] for name in names for call in PARTS[name][1]}
    for number in range(rounds):
        for (name, call), found in ratios.items():
            detector, run = calls[call]
            seconds = {}
            for on in (False, True):
                PARTS[name][0](detector, on)
                run()  # copies are made, and the heap settles
                began = time.process_time()
                run()
                seconds[on] = time.process_time() - began
            found.append(seconds[False] / seconds[True])
            print(f"round {number + 1}: {name}, {call}: {found[-1]:.3f}", file=sys.stderr)
    return {key: median(found) for key, found in ratios.items()}


def main() -> None:
    """Print the table."""
    parser = command_parser("benchmarks.speed.cpu_parts", __doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of every measurement (default: 5)")
    parser.add_argument("--precision", choices=["auto", "32", "bf16"], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    precision = resolve_precision(options.precision, torch.device("cpu"))
    names = [name for name in options.only if name != "attention" or precision == "bf16"]
    found = gains(names, SIZES | INPUT | {"precision": precision}, batch=2, rounds=options.rounds)
    print("| part | a picture | a training step |\n|---|---:|---:|")
    for name in names:
        cells = (f"{found[name, call]:.2f}" if (name, call) in found else "" for call in ("picture", "step"))
        print(f"| `{name}` | {' | '.join(cells)} |")
    print(f"\nprecision {precision}, {options.rounds} rounds")
    print("\n".join(f"{name}: {value}" for name, value in machine.describe("cpu", rf_detr_python=None).items()))


if __name__ == "__main__":
    sys.exit(run_command(main))
