"""The first day of a user: an export of a labelling tool trains with one command and one argument, in an empty folder.

The command is as the user types it. Only the size of the network and the number of epochs are smaller than the
defaults, so that a run takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from formats_of_tools import NAMES, TRAIN, draw, write_cvat, write_label_studio_coco, write_voc, write_yolo
from hub_cache import fill_hub_cache, serve_hub_cache

from dino_detector import Detector, cli
from dino_detector.config import Config
from dino_detector.training import fit as fit_module

SMALL = {
    **{"epochs": 2, "image_size": 28, "val_frequency": 1, "num_workers": 0, "device": "cpu", "decoder_layers": 1},
    **{"hidden_dim": 32, "num_heads": 2, "feedforward_dim": 32, "box_head_dim": 32, "num_queries": 10},
}
EXPORTS: dict[str, Callable[[Path], None]] = {
    "roboflow_yolo": write_yolo,
    "label_studio": write_label_studio_coco,
    "voc": write_voc,
    "cvat": write_cvat,
}


@pytest.fixture
def day(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    write_dinov2: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Work in an empty folder; the default base model is in the cache of the hub, and runs are small."""
    hub = tmp_path_factory.mktemp("hub")
    fill_hub_cache(hub, ["facebook/dinov2-base"], write_dinov2)
    serve_hub_cache(hub, monkeypatch)
    whole = fit_module.fit

    def fit(config: Config, **extras: Any) -> Any:
        return whole(config.replace(**SMALL), **extras)

    monkeypatch.setattr(fit_module, "fit", fit)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("tool", EXPORTS)
def test_an_export_trains_with_one_argument_and_stays_as_it_was(
    tool: str, day: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    EXPORTS[tool](day / "export")
    before = files_of(day / "export")
    assert cli.main(["train", "export"]) == 0
    assert files_of(day / "export") == before
    names = {"roboflow_yolo": "YOLO", "label_studio": "COCO", "voc": "Pascal VOC", "cvat": "CVAT"}
    assert f"from {names[tool]} export" in caplog.text
    assert set(Detector.load("outputs/dino_detector_last.pth").categories.names) == set(NAMES)
    settings = yaml.safe_load((day / "outputs" / "config.yaml").read_text())
    assert (settings["data"], settings["dino_model"]) == ("export", "facebook/dinov2-base")
    evaluated = tool in ("roboflow_yolo", "voc")  # the other two exports have one split
    assert (day / "outputs" / "val_metrics_epoch_2.json").exists() == evaluated
    assert ("--val_fraction" in caplog.text) != evaluated


@pytest.mark.parametrize("tool", ["label_studio", "cvat"])
def test_an_export_of_one_folder_holds_back_validation_images(tool: str, day: Path) -> None:
    EXPORTS[tool](day / "export")
    assert cli.main(["train", "export", "--val_fraction", "0.4"]) == 0
    metrics = json.loads((day / "outputs" / "val_metrics_epoch_2.json").read_text())
    held = metrics["num_images"]
    assert 0 < held < len(TRAIN)
    words = ["evaluate", "export", "--val_fraction", "0.4", "--checkpoint", "outputs/dino_detector_last.pth"]
    assert cli.main([*words, "--output_dir", "evaluation", "--num_workers", "0"]) == 0
    again = json.loads((day / "evaluation" / "val_metrics.json").read_text())
    assert again["num_images"] == held, "an evaluation holds back the same images"


def test_a_day_from_export_to_pictures(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check, train, evaluate, resume, report and predict, each with the arguments that the page names."""
    write_yolo(day / "export")
    draw(day / "photos", TRAIN[:2])
    best = "outputs/dino_detector_best.pth"
    assert cli.main(["data", "export"]) == 0
    assert cli.main(["train", "export"]) == 0
    assert cli.main(["evaluate", "export", "--checkpoint", best, "--output_dir", "evaluation"]) == 0
    assert cli.main(["analyze", "--metrics_file", "outputs/val_metrics_epoch_2.json"]) == 0
    assert (day / "outputs" / "analysis" / "report.html").stat().st_size > 0
    assert cli.main(["predict", "photos", "--checkpoint", best]) == 0
    assert {path.name for path in (day / "outputs" / "predictions").glob("*.jpg")} == {"a.jpg", "b.jpg"}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda root: (root / "train" / "labels" / "a.txt").write_text("7 0.5 0.5 0.1 0.1\n"), ("a.txt", "class 7")),
        (lambda root: (root / "data.yaml").write_text("train: nowhere\nnames: [a]\n"), ("data.yaml", "nowhere")),
        (lambda root: (root / "data.yaml").unlink(), ("export", "data.yaml")),
    ],
)
def test_bad_input_gets_one_line_and_changes_nothing(
    spoil: Callable[[Path], Any], named: tuple[str, str], day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_yolo(day / "export")
    spoil(day / "export")
    before = files_of(day)
    assert cli.main(["train", "export"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert all(word in said for word in named)
    assert files_of(day) == before
