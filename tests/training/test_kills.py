"""A run that is killed before any of its file operations resumes to the files of an uninterrupted run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from dino_detector.config.yaml_text import write_config

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks of a process")

SMALL = {"logger": [], "decoder_layers": 1, "num_queries": 4, "batch_size": 4}
DEBUG = ["--debug", "--debug_samples", "3", "--epochs", "3", "--val_frequency", "1"]


@pytest.mark.parametrize(("flags", "steps"), [([], 2), (DEBUG, 14)], ids=["every operation", "a debug run"])
def test_a_killed_run_ends_as_a_whole_one(flags, steps, settings, tmp_path, draw_boxes, warm_python):
    """All files are compared; the debug run, which also removes checkpoints, is killed before some operations."""
    train, val = draw_boxes(tmp_path, "train", 3), draw_boxes(tmp_path, "val", 1, seed=1, first_id=300)
    data = {"val_images": val.images, "val_annotations": val.annotations}
    data |= {"train_images": train.images, "train_annotations": train.annotations}
    write_config(settings(tmp_path / "unused", **SMALL, **data), tmp_path / "run.yaml")
    firsts = (1, 2) if steps == 2 else (5, 12)
    runs = [start(warm_python, tmp_path, first, steps, flags) for first in firsts]
    for first, run in zip(firsts, runs, strict=True):
        out, errors = run.communicate()
        assert run.returncode == 0, errors[-3000:]
        found = json.loads(out.splitlines()[-1])
        assert found["wrong"] == {}
        assert found["operations"] == list(range(first, found["operations"][-1] + 1, steps))
        assert found["operations"][-1] > 40


def start(python: Path, folder: Path, first: int, step: int, flags: list[str]) -> subprocess.Popen[str]:
    runs = folder / f"runs_{first}"
    runs.mkdir()
    words = [python, Path(__file__).with_name("killed_runs.py"), folder / "run.yaml", runs, first, step, *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in words], env=environment, **pipes)
