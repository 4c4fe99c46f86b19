"""Runs without validation, debug runs, starts from weights, detections in test images, and what a run logs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dino_detector import train as command
from dino_detector.analysis.tables import overfitting_verdict
from dino_detector.arguments import write_config
from dino_detector.config import Config
from dino_detector.models.detector import Detector
from dino_detector.training.evaluation import evaluate
from dino_detector.training.fit import fit
from dino_detector.validate import CocoMetrics


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_run_without_validation_images_evaluates_nothing_and_writes_its_checkpoints(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = settings(tmp_path / "out", val_images=None, val_annotations=None, epochs=3, val_frequency=2)
    assert fit(config) is None
    kinds = ("epoch_2", "epoch_3", "last", "final")
    assert files(tmp_path / "out") == {f"dino_detector_{kind}.pth" for kind in kinds}
    assert "nothing is evaluated" in caplog.text
    Detector.load(tmp_path / "out" / "dino_detector_epoch_2.pth", device="cpu")


def test_a_debug_run_keeps_the_newest_of_its_epoch_checkpoints_and_all_metrics(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    metrics = fit(settings(tmp_path / "out", debug=True, debug_samples=4, epochs=3, val_frequency=1))
    assert metrics.num_images == 4
    written = files(tmp_path / "out")
    assert {name for name in written if "epoch" in name} == {
        "dino_detector_epoch_3.pth",
        *(f"val_metrics_epoch_{epoch}.json" for epoch in (1, 2, 3)),
    }
    assert {"dino_detector_best.pth", "dino_detector_last.pth", "debug_4_seed42_indices.json"} <= written


def test_a_debug_run_says_that_it_overfits_when_it_does(
    settings: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path / "out", debug=True, debug_samples=2, epochs=150, val_frequency=150, learning_rate=3e-3)
    write_config(config, tmp_path / "run.yaml")
    assert command.main(["--config", str(tmp_path / "run.yaml")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"The model can overfit: AP50 (0\.9\d\d|1\.000) on the 2 images that it trained on\.", last)


@pytest.mark.parametrize(("ap50", "verdict"), [(0.9, "can overfit"), (0.8999, "has not overfitted")])
def test_the_verdict_turns_at_an_ap50_of_090(ap50: float, verdict: str) -> None:
    numbers = dict.fromkeys(("AP", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"), 0.5)
    metrics = CocoMetrics(**numbers, AP50=ap50, per_class=(), num_images=32, num_detections=9)
    assert verdict in overfitting_verdict(metrics)


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
    assert f"{weights} holds no training state: its weights are taken" in caplog.text
    second = torch.load(tmp_path / "second" / "dino_detector_final.pth", weights_only=True)
    assert second["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1
    given = first.state_dict()
    for name, value in second["state_dict"].items():
        assert torch.allclose(value, given[name.removeprefix("detector.")], atol=1e-5), name


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures that are not named by numbers, of two sizes."""
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
    settings: Callable[..., Config], tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(settings(tmp_path / "out", epochs=1))
    (pictures / "b.png").write_bytes((pictures / "b.png").read_bytes()[:900])  # whole header, half the pixels
    (pictures / "f.png").write_text("no picture")
    flags = ["--only_evaluate", "--checkpoint", str(tmp_path / "out" / "dino_detector_final.pth"), "--device", "cpu"]
    flags += ["--testdev_images", str(pictures), "--output_dir", str(tmp_path / "test"), "--num_workers", "0"]
    capsys.readouterr()
    assert command.main(flags) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"error: .*b\.png: cannot be read as an image .*; 1 more could not be read; .* written\n", line)
    assert {row["image_id"] for row in predictions(tmp_path / "test")} == {1, 3, 4, 5}


def events(folder: Path) -> EventAccumulator:
    (file,) = folder.glob("*/events.*")
    accumulator = EventAccumulator(str(file.parent))
    accumulator.Reload()
    return accumulator


def test_event_files_are_where_they_were_asked_for(settings: Callable[..., Config], tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "here"
    fit(settings(tmp_path / "out", epochs=1, log_dir=logs, experiment_name="first try"))
    (folder,) = (logs / "tensorboard").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}_first try", folder.name)
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_losses_are_logged_every_so_many_steps(settings: Callable[..., Config], tmp_path: Path) -> None:
    """Seven images in batches of two are four steps an epoch."""
    fit(settings(tmp_path / "out", epochs=3, log_frequency=5))
    steps = [event.step for event in events(tmp_path / "out" / "tensorboard").Scalars("train/loss")]
    assert steps == [4, 9]


def test_logged_images_are_what_the_network_sees_with_boxes(settings: Callable[..., Config], tmp_path: Path) -> None:
    fit(settings(tmp_path / "out", epochs=2, log_images=True, log_images_frequency=3))
    log = events(tmp_path / "out" / "tensorboard")
    assert log.Tags()["images"] == ["train/images/0", "train/images/1"]
    logged = log.Images("train/images/0")
    assert [event.step for event in logged] == [0, 3, 6]
    image = np.asarray(Image.open(io.BytesIO(logged[0].encoded_image_string)))
    assert image.shape == (56, 56, 3)
    assert image.max() > 200, "dark noise below 60 holds bright rectangles"


def test_the_memory_monitor_tells_and_logs_the_peak(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fit(settings(tmp_path / "out", epochs=2, memory_monitor=True))
    assert re.search(r"peak memory after epoch 2: \d+\.\d\d GiB of this process", caplog.text)
    values = [event.value for event in events(tmp_path / "out" / "tensorboard").Scalars("memory/peak_memory_bytes")]
    assert len(values) == 2
    assert 100e6 < values[0] <= values[1] < 100e9


def test_a_number_of_classes_that_contradicts_the_file_is_refused(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"train\.json: has 2 categories, but --num_classes is 9"):
        fit(settings(tmp_path / "out", num_classes=9))
    fit(settings(tmp_path / "out", num_classes=2, epochs=1))
