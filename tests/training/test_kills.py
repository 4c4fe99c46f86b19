"""A run that is killed before any of its file operations resumes to the files of an uninterrupted run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from dino_detector.config.yaml_text import write_config

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks of a process")

SMALL = {"logger": [], "decoder_layers": 1, "num_queries": 4, "batch_size": 4, "train_backbone": "none"}
DEBUG = ["--debug", "--debug_samples", "3", "--epochs", "3", "--val_frequency", "1"]


@pytest.mark.parametrize("flags", [[], DEBUG], ids=["a run", "a debug run"])
def test_a_run_killed_before_any_operation_ends_as_a_whole_one(flags, settings, tmp_path, draw_boxes, warm_python):
    """All files are compared; the debug run also removes checkpoints."""
    train, val = draw_boxes(tmp_path, "train", 3), draw_boxes(tmp_path, "val", 1, seed=1, first_id=300)
    data = {"val_images": val.images, "val_annotations": val.annotations}
    data |= {"train_images": train.images, "train_annotations": train.annotations}
    write_config(settings(tmp_path / "unused", **SMALL, **data), tmp_path / "run.yaml")
    (tmp_path / "runs").mkdir()
    words = [warm_python, Path(__file__).with_name("killed_runs.py"), tmp_path / "run.yaml", tmp_path / "runs", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["wrong"] == {}
    assert found["operations"] > 40
    assert len(found["resumed"]) > 9, "states before the first checkpoint, after each epoch, and at the end"
