"""Hardware and software versions, which every published number comes with."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import dino_detector
from benchmarks.common.runs import ROOT

VERSIONS = "import importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in %r))"


def describe(device: str, *, rf_detr_python: Path | None) -> dict[str, str]:
    """Return date, processor, memory, system, GPU and versions by name.

    Args:
        device: cpu, cuda or cuda:1.
        rf_detr_python: interpreter of RF-DETR's environment; None leaves out its versions.
    """
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor_name()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }
    if torch.device(device).type == "cuda":
        gpu = torch.cuda.get_device_properties(torch.device(device))
        facts["GPU"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    names = ("torch", "torchvision", "transformers", "lightning", "hotcoco")
    facts["versions"] = ", ".join([f"dinov2-od {revision()}", *(f"{name} {version(name)}" for name in names)])
    if rf_detr_python is not None:
        facts["versions of RF-DETR's environment"] = subprocess.run(
            [str(rf_detr_python), "-c", VERSIONS % (("rfdetr", "torch", "transformers", "pytorch-lightning"),)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    return facts


def processor_name() -> str:
    """Return the model name of the processor."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def revision() -> str:
    """Return the version and commit of this repository, with ``-dirty`` where files differ from the commit."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True)
    commit = f" ({found.stdout.strip()})" if found.returncode == 0 else ""
    return dino_detector.__version__ + commit
