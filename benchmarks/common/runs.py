"""Benchmark runs in separate processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dino_detector.errors import InputError

ROOT = Path(__file__).parents[2]
"""root of the repository"""


def environment(threads: int) -> dict[str, str]:
    """Return environment variables for a process that imports `benchmarks`, uses ``threads`` threads and no hub."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",  # every system must start without pretrained weights
    }


def require_equal(done: dict[str, Any], asked: dict[str, Any], *, place: Path, folder: Path) -> None:
    """Check that a finished run had the requested settings.

    Args:
        done: settings of the finished run.
        asked: requested settings.
        place: file or folder that the error names.
        folder: folder of the run.

    Raises:
        InputError: some settings differ.
    """
    different = sorted(name for name in done.keys() | asked.keys() if done.get(name) != asked.get(name))
    if different:
        raise InputError(
            f"{place}: this run had another {', '.join(different)}; give another --output, or remove {folder}"
        )
