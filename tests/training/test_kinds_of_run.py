"""Runs without validation, debug runs, starts from weights, detections in test images, and messages of a run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dino_detector.analysis.tables import overfitting_verdict
from dino_detector.commands import train as command
from dino_detector.config import Config
from dino_detector.config.yaml_text import write_config
from dino_detector.inference.detector import Detector
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.training.evaluation import evaluate
from dino_detector.training.fit import fit


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_run_without_validation_images_evaluates_nothing_and_writes_its_checkpoints(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = settings(tmp_path / "out", val_images=None, val_annotations=None, epochs=3, val_frequency=2)
    assert fit(config) is None
    kinds = ("epoch_2", "epoch_3", "last", "final")
    assert files(tmp_path / "out") == {"config.yaml", "history.csv", *(f"dino_detector_{kind}.pth" for kind in kinds)}
    assert "there is no evaluation" in caplog.text
    Detector.load(tmp_path / "out" / "dino_detector_epoch_2.pth", device="cpu")


def test_a_debug_run_keeps_the_newest_of_its_epoch_checkpoints_and_all_metrics(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    metrics = fit(settings(tmp_path / "out", debug=True, debug_samples=4, epochs=3, val_frequency=1))
    assert metrics.num_images == 4
    written = files(tmp_path / "out")
    assert {name for name in written if "epoch" in name} == {
        *("dino_detector_epoch_3.pth", "val_predictions_epoch_3.json"),
        *(f"val_metrics_epoch_{epoch}.json" for epoch in (1, 2, 3)),
    }
    assert {"dino_detector_best.pth", "dino_detector_last.pth", "debug_4_seed42_indices.json"} <= written


def test_a_debug_run_says_that_it_overfits_when_it_does(
    settings: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = {"epochs": 60, "val_frequency": 60, "learning_rate": 6e-3, "ema_decay": 0.0}
    config = settings(tmp_path / "out", debug=True, debug_samples=2, **fast)
    write_config(config, tmp_path / "run.yaml")
    assert command.main(["--config", str(tmp_path / "run.yaml")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"The model can overfit: AP50 (0\.9\d\d|1\.000) on the 2 images that it trained on\.", last)


@pytest.mark.parametrize(("ap50", "verdict"), [(0.9, "can overfit"), (0.8999, "has not overfitted")])
def test_the_verdict_turns_at_an_ap50_of_090(ap50: float, verdict: str) -> None:
    numbers = dict.fromkeys(("AP", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"), 0.5)
    metrics = CocoMetrics(**numbers, AP50=ap50, per_class=(), num_images=32, num_detections=9)
    assert verdict in overfitting_verdict(metrics)


def test_a_preset_that_is_overridden_says_so(
    settings: Callable[..., Config], tmp_path: Path, capfd: pytest.CaptureFixture[str], warm_python: Path
) -> None:
    """A module that runs as a script has a logger name outside the package."""
    config = settings(tmp_path / "out", debug=True, debug_samples=2, epochs=1, val_frequency=1)
    write_config(config, tmp_path / "run.yaml")
    words = [warm_python, "-m", "dino_detector.train", "--config", str(tmp_path / "run.yaml")]
    subprocess.run(words, check=True)
    out = capfd.readouterr().out
    assert "your settings override the preset debug: epochs 1, val_frequency 1, learning_rate 0.001" in out


def test_going_on_from_an_older_epoch_moves_the_later_ones_aside(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    fit(settings(folder, epochs=3, learning_rate=3e-3))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    config = settings(folder, epochs=2, learning_rate=3e-3, checkpoint=folder / "dino_detector_epoch_1.pth")
    fit(config)
    (earlier,) = folder.glob("earlier_*")
    kept = {path.name: path.read_bytes() for path in earlier.iterdir()}
    moved = {f"dino_detector_{kind}.pth" for kind in ("epoch_2", "epoch_3", "last", "final", "best")}
    moved |= {f"val_{kind}_epoch_{epoch}.json" for kind in ("metrics", "predictions") for epoch in (2, 3)}
    moved |= {"history.csv"}
    assert kept == {name: before[name] for name in moved}
    names = files(folder)
    assert {name for name in names if "epoch" in name} == {
        *("dino_detector_epoch_1.pth", "dino_detector_epoch_2.pth"),
        *(f"val_{kind}_epoch_{epoch}.json" for kind in ("metrics", "predictions") for epoch in (1, 2)),
    }
    fit(config.replace(epochs=3, checkpoint=folder / "dino_detector_last.pth"))
    assert len(list(folder.glob("earlier_*"))) == 1, "going on from the end moves nothing"


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("best", [1, 3])
def test_going_on_from_an_older_epoch_keeps_the_best_of_what_came_before(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: int, debug: bool
) -> None:
    """A debug run does not keep the checkpoint of the first epoch as its own file."""
    from dino_detector.training import module

    original = module.coco_metrics
    precisions = iter([0.6 if epoch == best else 0.5 - 0.1 * epoch for epoch in (1, 2, 3)] + [0.1])
    monkeypatch.setattr(module, "coco_metrics", lambda *a, **k: replace(original(*a, **k), AP=next(precisions)))
    folder = tmp_path / "out"
    changes = {"debug": True, "debug_samples": 4} if debug else {}
    fit(settings(folder, epochs=2, **changes))
    after_two = folder / "two.pth"
    after_two.write_bytes((folder / "dino_detector_last.pth").read_bytes())
    fit(settings(folder, epochs=3, checkpoint=folder / "dino_detector_last.pth", **changes))
    fit(settings(folder, epochs=3, checkpoint=after_two, **changes))
    if debug and best == 3:
        assert not (folder / "dino_detector_best.pth").exists(), "the best epoch was moved aside"
    else:
        assert torch.load(folder / "dino_detector_best.pth", weights_only=True)["epoch"] == 0


def test_settings_that_the_checkpoint_decides_are_warned_of(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(settings(tmp_path / "out", epochs=1))
    checkpoint = tmp_path / "out" / "dino_detector_last.pth"
    write_config(settings(tmp_path / "test", checkpoint=checkpoint), tmp_path / "e.yaml")
    assert command.main(["--config", str(tmp_path / "e.yaml"), "--only_evaluate", "--num_queries", "9"]) == 0
    written = yaml.safe_load((tmp_path / "test" / "evaluation.yaml").read_text())
    assert (written["num_queries"], written["epochs"], written["learning_rate"]) == (8, 1, 1e-3)
    assert "--num_queries comes from the checkpoint: 8, not 9" in caplog.text


def test_an_evaluation_replaces_nothing_of_an_earlier_one(
    settings: Callable[..., Config], tmp_path: Path, pictures: Path
) -> None:
    fit(settings(tmp_path / "out", epochs=1))
    flags = ["--only_evaluate", "--checkpoint", str(tmp_path / "out" / "dino_detector_last.pth"), "--device", "cpu"]
    flags += ["--testdev_images", str(pictures), "--output_dir", str(tmp_path / "test"), "--num_workers", "0"]
    assert command.main(flags) == 0
    whole = (tmp_path / "test" / "testdev_predictions_final.json").read_bytes()
    assert command.main([*flags, "--test_mini", "--test_mini_size", "2"]) == 0
    assert len({row["image_id"] for row in predictions(tmp_path / "test")}) == 2
    (earlier,) = (tmp_path / "test").glob("earlier_*")
    assert (earlier / "testdev_predictions_final.json").read_bytes() == whole
    assert command.main(flags) == 0
    assert not list((tmp_path / "test").glob("test_mini_*")), "the list of a few would be wrong beside all"
    assert (tmp_path / "test" / "testdev_predictions_final.json").read_bytes() == whole


def test_weights_without_training_state_begin_a_new_run(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fit(settings(tmp_path / "first"))
    weights = tmp_path / "weights.pth"
    first = Detector.load(tmp_path / "first" / "dino_detector_final.pth", device="cpu")
    first.save(weights)
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "ema_decay": 0.0, "epochs": 1}
    fit(settings(tmp_path / "second", checkpoint=weights, batch_size=3, **still))
    assert f"{weights} holds no training state: training starts from its weights" in caplog.text
    second = torch.load(tmp_path / "second" / "dino_detector_final.pth", weights_only=True)
    assert second["callbacks"]["RunFiles"]["finished_epochs"] == 1
    given = first.state_dict()
    for name, value in second["state_dict"].items():
        assert torch.allclose(value, given[name.removeprefix("detector.")], atol=1e-5), name


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return five pictures of two sizes whose names are not numbers."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a", "b", "c", "d", "e")):
        shape = (60, 80, 3) if number % 2 else (90, 50, 3)
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def predictions(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "testdev_predictions_final.json").read_text())


def test_training_ends_with_the_detections_that_an_evaluation_finds(
    settings: Callable[..., Config], tmp_path: Path, pictures: Path
) -> None:
    config = settings(tmp_path / "out", testdev_images=pictures)
    fit(config)
    written = predictions(tmp_path / "out")
    assert {row["image_id"] for row in written} == {1, 2, 3, 4, 5}
    assert {row["category_id"] for row in written} <= {4, 9}
    listed = json.loads((tmp_path / "out" / "testdev_image_info.json").read_text())["images"]
    assert [(image["id"], image["file_name"]) for image in listed[:2]] == [(1, "a.png"), (2, "b.png")]
    checkpoint = tmp_path / "out" / "dino_detector_final.pth"
    again = evaluate(config.replace(checkpoint=checkpoint, val_images=None, val_annotations=None))
    assert again.metrics is None
    assert len(again.test_results) == len(written)
    for row, other in zip(written, again.test_results, strict=True):
        assert row["score"] == pytest.approx(other["score"], abs=1e-4)


def test_boxes_of_test_images_are_in_their_own_pixels(
    settings: Callable[..., Config], tmp_path: Path, pictures: Path
) -> None:
    fit(settings(tmp_path / "out", testdev_images=pictures, epochs=1))
    detector = Detector.load(tmp_path / "out" / "dino_detector_final.pth", device="cpu")
    found = detector.predict(sorted(pictures.iterdir()), threshold=0)
    for image_id, expected in enumerate(found, start=1):
        rows = [row for row in predictions(tmp_path / "out") if row["image_id"] == image_id]
        assert len(rows) == len(expected)
        for row, (left, top, right, bottom), score in zip(rows, expected.xyxy, expected.confidence, strict=True):
            assert row["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.05)
            assert row["score"] == pytest.approx(float(score), abs=1e-4)


def test_a_broken_test_picture_is_named_when_all_others_are_written(
    settings: Callable[..., Config], tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    fit(settings(tmp_path / "out", epochs=1))
    (pictures / "b.png").write_bytes((pictures / "b.png").read_bytes()[:900])  # complete header, half the pixels
    (pictures / "f.png").write_text("no picture")
    flags = ["--only_evaluate", "--checkpoint", str(tmp_path / "out" / "dino_detector_final.pth"), "--device", "cpu"]
    flags += ["--testdev_images", str(pictures), "--output_dir", str(tmp_path / "test"), "--num_workers", "0"]
    capsys.readouterr()
    assert command.main(flags) == 2
    said = capsys.readouterr()
    assert re.fullmatch(
        r"error: .*f\.png: cannot be read as an image .*; 1 more could not be read; .* written\n", said.err
    )
    assert "b.png: cannot be read as an image" in caplog.text
    assert {row["image_id"] for row in predictions(tmp_path / "test")} == {1, 3, 4, 5}


def test_a_long_epoch_tells_where_it_is(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("dino_detector.training.progress.SECONDS_BETWEEN_LINES", 0.0)
    fit(settings(tmp_path / "out", epochs=1))
    assert re.search(r"epoch 1/1  batch 3/4  loss \d+\.\d{3}  \d+\.\d images/s\n", caplog.text)


@pytest.mark.parametrize(
    ("train_backbone", "said"),
    [
        ("lora", "adapters in backbone layers 1 to 1 of 2, counted from 0"),
        ("full", "backbone layers 0 to 1 of 2, counted from 0"),
        ("none", "none of the backbone"),
    ],
)
def test_a_run_says_what_trains_of_the_backbone(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture, train_backbone: str, said: str
) -> None:
    caplog.set_level("INFO")
    fit(settings(tmp_path / "out", epochs=1, val_frequency=2, train_backbone=train_backbone))
    assert f" parameters train, {said}; on cpu" in caplog.text


def test_a_number_of_classes_that_contradicts_the_file_is_refused(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"train\.json: has 2 categories, but --num_classes is 9"):
        fit(settings(tmp_path / "out", num_classes=9))
    fit(settings(tmp_path / "out", num_classes=2, epochs=1))


def test_too_few_queries_are_told_before_training(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An image has two boxes; an input of 56 pixels has 4 x 4 patches, and 2 x 2 positions at half resolution."""
    fit(settings(tmp_path / "few", epochs=1, num_queries=1))
    assert (
        "there are images with up to 2 boxes, and --num_queries 1 can't find more than 1; give 2 or more" in caplog.text
    )
    caplog.clear()
    fit(settings(tmp_path / "cells", epochs=1, num_queries=21, feature_scales=[1.0, 0.5]))
    assert "images of 56x56 pixels have 20 feature cells, so at most 20 of the --num_queries 21" in caplog.text
    caplog.clear()
    for enough in ({"num_queries": 20}, {"num_queries": 21, "two_stage": False}):
        fit(settings(tmp_path / "enough", epochs=1, feature_scales=[1.0, 0.5], **enough))
    assert "--num_queries" not in caplog.text
