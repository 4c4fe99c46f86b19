"""Every Python example of the pages and of the docstrings runs."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from dino_detector.config import LIGHTWEIGHT, Config
from dino_detector.data.demo_set import write_demo_set
from dino_detector.inference.detector import build_detector
from dino_detector.structures.categories import Categories

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "dino_detector").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, dinov2_folder: Path) -> Path:
    """Write the files that the examples name: checkpoints of one base, an exported detector, pictures."""
    folder = tmp_path_factory.mktemp("examples")
    settings = {
        **{"dino_model": str(dinov2_folder), "image_size": "56x84", "lora_layers": 2, "lora_rank": 2},
        **{"num_queries": 5, "decoder_layers": 1, "hidden_dim": 16, "num_heads": 4, "feedforward_dim": 24},
        **{"n_points": 2, "feature_scales": [1.0], "box_head_dim": 12},
    }
    write_demo_set(folder / "my_data", train_images=4, val_images=2)
    (folder / "tiny.json").write_text(json.dumps(settings))
    detector = build_detector(Config.from_flat(settings), categories=Categories((3, 9), ("cell", "plate")))
    for name in ("outputs/dino_detector_best", "outputs/dino_detector_final", "cars/dino_detector_best"):
        (folder / name).parent.mkdir(exist_ok=True)
        detector.save(folder / f"{name}.pth")
    shutil.copytree(folder / "cars", folder / "signs")
    detector.merge().export(folder / "detector.onnx")
    write_demo_set(folder / "data", train_images=2, val_images=1)
    for name in ("photo", "street", "a", "b"):
        pixels = torch.randint(256, (60, 90, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{name}.jpg")
    return folder


@pytest.fixture
def _in_a_copy(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name, value in json.loads(Path("tiny.json").read_text()).items():
        monkeypatch.setitem(LIGHTWEIGHT, name, value)  # examples train a tiny detector


@pytest.mark.usefixtures("_in_a_copy")
@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_of_a_page_runs(block: str):
    exec(compile(block, "example", "exec"), {"__name__": "example"})


@pytest.mark.usefixtures("_in_a_copy")
@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_docstring_run(module: str):
    found = [test for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples]
    assert found
    runner = doctest.DocTestRunner()
    for test in found:
        assert not any(doctest.SKIP in example.options for example in test.examples), "an example that runs nothing"
        assert runner.run(test).failed == 0


def test_the_public_classes_have_examples():
    classes = ("detector", "detector_group", "exported_detector")
    assert {"dino_detector", *(f"dino_detector.inference.{name}" for name in classes)} <= set(MODULES)
