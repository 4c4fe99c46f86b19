"""The notebooks of ``examples/`` run from their first cell to their last, on a few pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALLER = {"EPOCHS = 20": "EPOCHS = 1", "PICTURES = 200": "PICTURES = 8", "val_images=40": "val_images=3"}


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of the user's notebooks out of the test."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", ["own_data", "several_detectors"])
def test_a_notebook_runs(name: str, tmp_path: Path):
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        for long, short in SMALLER.items():
            cell.source = cell.source.replace(long, short)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = "\n".join(_text(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "Traceback" not in shown
    assert not re.search(r"\bWarning: ", shown), shown
    if name == "own_data":
        assert "<iframe" in shown
        assert "epoch 1/1" in shown, "the log of the run is visible"
        assert "epoch 3/3" in shown, "the interrupted run is resumed"
    else:
        assert shown.count(" in the group, the same boxes") == 2, "a detector finds the same in the group and alone"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def _text(output: Any) -> str:
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")])
