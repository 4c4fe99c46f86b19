from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_tree import CocoTree, write_coco_tree
from warm_python import serve_warm_python

SLOW = (
    *("training", "benchmarks", "tools", "inference/test_export.py", "api/test_python_run.py", "api/test_types.py"),
    *("api/test_data_in_memory.py", "test_notebooks.py"),
    *("models/test_demo_backbone.py", "analysis/report/test_report_browser.py", "commands/test_analyze.py"),
    *(
        "commands/test_analyze_report.py",
        "commands/test_predict.py",
        "commands/test_recommend.py",
        "test_cli.py",
        "test_coco_tree.py",
    ),
    *("test_documented_commands.py", "test_examples.py", "storage/test_file_set.py"),
)
"""folders and files whose tests train, start processes or open a browser"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests outside `SLOW`, so that ``pytest -m fast`` runs them alone, and put them last.

    With the long files first, no process waits for another at the end.
    """
    slow = tuple(str(Path(__file__).parent / name) for name in SLOW)
    for item in items:
        if not str(item.path).startswith(slow):
            item.add_marker("fast")
    items.sort(key=lambda item: item.get_closest_marker("fast") is not None)


def pytest_collection_finish() -> None:
    """Spare every collection of garbage in a test the million objects of the libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A program that takes the place of ``python`` and starts with the libraries imported."""
    with serve_warm_python(tmp_path_factory.mktemp("warm")) as program:
        yield program


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with models of this size more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random state, so that no test is flaky."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def write_dinov2() -> Callable[..., Path]:
    """Write a tiny DINOv2 of random weights as a Hugging Face folder: 4 layers, width 32, 4 x 4 patches of 14."""
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    def write(folder: Path, *, registers: int = 0, seed: int = 0, **settings: Any) -> Path:
        shape = {
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "mlp_ratio": 2,
            "image_size": 56,
            "patch_size": 14,
        } | settings
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            if registers:
                model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=registers, **shape))
            else:
                model = Dinov2Model(Dinov2Config(**shape))
            for parameter in model.parameters():  # biases start at zero, which would hide their loss
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(folder)
        processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        return folder

    return write


@pytest.fixture(scope="session")
def dinov2_folder(write_dinov2: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny DINOv2 without registers."""
    return write_dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="session")
def dinov2_registers_folder(write_dinov2: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny DINOv2 with 3 registers."""
    return write_dinov2(tmp_path_factory.mktemp("dinov2_registers"), registers=3)


@pytest.fixture(scope="session")
def dinov2_swiglu_folder(write_dinov2: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny DINOv2 with the feed-forward network of the giant model."""
    return write_dinov2(tmp_path_factory.mktemp("dinov2_swiglu"), use_swiglu_ffn=True)


@pytest.fixture(scope="session")
def coco2017(tmp_path_factory: pytest.TempPathFactory) -> CocoTree:
    """Return a stand-in for COCO 2017 with 10,000 training, 40 validation and 60 test images (half are test-dev)."""
    return write_coco_tree(tmp_path_factory.mktemp("coco"))
