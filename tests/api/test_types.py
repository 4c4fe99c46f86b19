"""A type checker knows the settings: names and types of keyword arguments, and types of results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import dino_detector as dd

pytest.importorskip("mypy")

LIBRARIES = ("torch", "torchvision", "lightning", "transformers", "numpy", "supervision", "scipy", "matplotlib")
"""libraries that take minutes to check, and say nothing of settings"""
CODE = """import dino_detector as dd

run = dd.train("data", epochs=3, image_size=(504, 896), lightweight=True, output_dir="a", scale_range=(0.5, 2))
reveal_type(run)
reveal_type(run.best)
report = dd.evaluate("data", checkpoint=run.best)
reveal_type(report.per_class)
dd.train("data", epohcs=3)
dd.train("data", epochs="x")
dd.predict("a.jpg")
dd.export(checkpoint="a.pth", precision="64")
"""


def test_mypy_refuses_wrong_names_and_types_alone(tmp_path: Path):
    (tmp_path / "use.py").write_text(CODE)
    skipped = ",".join(f"mypy-{name}.*" for name in LIBRARIES)
    common = "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n"
    (tmp_path / "mypy.ini").write_text(f"{common}[{skipped}]\nfollow_imports = skip\n")
    words = ["--config-file", "mypy.ini", "--cache-dir", tmp_path / "cache", "use.py"]
    environment = os.environ | {"MYPYPATH": str(Path(dd.__file__).parents[1])}
    command = [sys.executable, "-m", "mypy", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said: dict[int, str] = defaultdict(str)
    for line in done.stdout.splitlines():
        if line.startswith("use.py:"):
            said[int(line.split(":")[1])] += line
    assert 'Revealed type is "dino_detector.api.run.Run"' in said[4]
    assert "pathlib.Path" in said[5]
    assert "ClassMetrics" in said[7]
    assert 'Unexpected keyword argument "epohcs"' in said[8]
    assert 'Argument "epochs" to "train" has incompatible type "str"' in said[9]
    assert 'Missing named argument "checkpoint"' in said[10]
    assert 'Argument "precision" to "export" has incompatible type' in said[11]
    assert {line for line, text in said.items() if "error:" in text} == {8, 9, 10, 11}, done.stdout
