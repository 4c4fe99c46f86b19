from __future__ import annotations

import subprocess
import sys

import pytest

from dino_detector.models.cpu import heap

FAULTS = """
import resource
import torch

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
{prepare}
faults()
by_default = faults()
{change}
for _ in range(3):
    faults()  # until the heap has grown around what else lies there
print(by_default, faults())
"""


def faults(prepare: str, change: str) -> tuple[int, int]:
    """Return the page faults of a few rounds of ``work()``, before and after the change of the heap."""
    code = FAULTS.format(prepare=prepare, change=change)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = (int(count) for count in done.stdout.split())
    return before, after


STEPS = """
from dino_detector.models.cpu.heap import keep_freed_memory

def work():
    kept = [torch.ones(12_000_000) for _ in range(3)]  # 48 MB each, as activations of a large batch are
"""
PICTURES = """
from dino_detector.config import Config
from dino_detector.structures.categories import Categories
from dino_detector.inference.detector import build_detector

settings = {"dino_model": "dinov2-demo", "image_size": 448, "num_queries": 20, "decoder_layers": 1}
detector = build_detector(Config.from_flat(settings), categories=Categories((1,), ("one",))).eval()
images = [torch.zeros(3, 448, 448, dtype=torch.uint8)]

def work():
    detector.detect(images)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux has the setting")


@on_linux
def test_a_step_takes_the_memory_that_the_one_before_has_freed():
    by_default, kept = faults(STEPS, "keep_freed_memory()")
    assert by_default > 1000
    assert kept < by_default / 20


@on_linux
def test_a_picture_takes_the_memory_of_the_one_before_once_a_detector_is_optimized():
    by_default, kept = faults(PICTURES, 'detector.optimize(precision="32")')
    assert by_default > 1000
    assert kept < by_default / 5


class OldLibrary:
    """Old C libraries: glibc before 2.35 refuses thresholds over 32 MB, musl has no such function, some refuse all."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.settings: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        accepted = parameter != heap.MMAP_THRESHOLD or value <= self.largest
        if accepted:
            self.settings.append((parameter, value))
        return int(accepted)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux has the setting")
@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (2**31, [(-3, 2**31 - 1), (-1, 2**31 - 1)]),
        (2**25, [(-3, 2**25), (-1, 2**31 - 1)]),
        (0, []),
    ],
)
def test_one_setting_is_not_made_without_the_other(largest: int, expected: list, monkeypatch: pytest.MonkeyPatch):
    library = OldLibrary(largest)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: library)
    heap.keep_freed_memory()
    assert library.settings == expected
