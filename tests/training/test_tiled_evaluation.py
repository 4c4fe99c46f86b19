"""Evaluation in tiles gives the detections of prediction in tiles; training in tiles is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dino_detector import cli
from dino_detector.commands import train as command
from dino_detector.config import Config
from dino_detector.config.yaml_text import write_config
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector
from dino_detector.training.evaluation import evaluate
from dino_detector.training.fit import fit
from dino_detector.validate import coco_metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., Any]) -> Config:
    """Return evaluation settings for a detector that gives 100 boxes an image: 50 queries, two classes."""
    run = train(tmp_path_factory.mktemp("run"), epochs=1, num_queries=50, two_stage=False)
    return run.config.replace(checkpoint=run.folder / "dino_detector_final.pth", num_workers=0)


def by_score(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["image_id"], -row["score"], row["category_id"]))


def assert_same_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.01)


@pytest.mark.parametrize("resize_mode", ["stretch", "letterbox"])
def test_images_that_fit_in_a_tile_are_evaluated_as_without_tiles(
    train: Callable[..., Any], tmp_path: Path, resize_mode: str
) -> None:
    run = train(tmp_path, epochs=1, resize_mode=resize_mode)
    config = run.config.replace(checkpoint=run.folder / "dino_detector_final.pth", batch_size=1)
    plain, tiled = evaluate(config), evaluate(config.replace(tile_size=80))
    assert tiled.results == plain.results
    assert tiled.metrics == plain.metrics


def test_images_that_do_not_get_what_prediction_finds_in_them(finished: Config) -> None:
    """An image has more than 100 detections; the best 100 of each class count."""
    tiled = evaluate(finished.replace(tile_size="40x45", tile_overlap=0.1))
    annotations = CocoAnnotations.read(finished.data.val_annotations)
    detector = Detector.load(finished.training.checkpoint, device="cpu")
    expected = []
    for record in annotations.images:
        found = detector.predict(
            finished.data.val_images / record.file_name,
            threshold=0.0,
            batch_size=finished.training.batch_size,
            tile_size=(40, 45),
            tile_overlap=0.1,
        )
        for category_id in (4, 9):
            rows = [
                {
                    "image_id": record.image_id,
                    "category_id": category_id,
                    "score": float(score),
                    "bbox": [*box[:2], box[2] - box[0], box[3] - box[1]],
                }
                for box, score, label in zip(found.xyxy.tolist(), found.confidence, found.class_id, strict=True)
                if label == category_id
            ]
            expected += rows[:100]
    assert_same_rows(by_score(tiled.results), by_score(expected))
    assert max(Counter(row["image_id"] for row in tiled.results).values()) > 100
    assert tiled.metrics == coco_metrics(annotations.ground_truth, tiled.results)
    assert tiled.metrics != evaluate(finished).metrics


def test_the_batch_size_and_workers_change_nothing(finished: Config) -> None:
    one = evaluate(finished.replace(tile_size=40, batch_size=1))
    many = evaluate(finished.replace(tile_size=40, batch_size=7, num_workers=1))
    assert len(many.results) == len(one.results) > 100
    found, expected = as_points(many.results), as_points(one.results)
    distances = torch.cdist(found, expected, p=torch.inf)  # unordered, because some scores are equal up to rounding
    assert distances.amin(dim=0).max() < 0.01
    assert distances.amin(dim=1).max() < 0.01


def as_points(rows: list[dict[str, Any]]) -> torch.Tensor:
    """Return ``[N, 7]``: image, class, box, and the score in percent."""
    numbers = [[row["image_id"], row["category_id"], *row["bbox"], 100 * row["score"]] for row in rows]
    return torch.tensor(numbers, dtype=torch.float64)


def flags_of(config: Config, output_dir: Path, *flags: str) -> list[str]:
    data = config.data
    return [
        *("--checkpoint", str(config.training.checkpoint), "--device", "cpu", "--num_workers", "0"),
        *("--val_images", str(data.val_images), "--val_annotations", str(data.val_annotations)),
        *("--output_dir", str(output_dir), *flags),
    ]


def test_the_commands_evaluate_and_detect_in_test_images_in_tiles(finished: Config, tmp_path: Path) -> None:
    images = str(finished.data.val_images)
    argv = flags_of(finished, tmp_path, "--tile_size", "40", "--testdev_images", images)
    assert cli.main(["evaluate", *argv]) == 0
    settings = yaml.safe_load((tmp_path / "evaluation.yaml").read_text())
    assert (settings["tile_size"], settings["tile_overlap"]) == ("40", 0.2)
    validated = json.loads((tmp_path / "val_predictions.json").read_text())
    tested = json.loads((tmp_path / "testdev_predictions_final.json").read_text())
    assert max(Counter(row["image_id"] for row in validated).values()) > 100
    assert [row["bbox"] for row in tested] == [row["bbox"] for row in validated]
    plain = flags_of(finished, tmp_path / "again", "--only_evaluate", "--config", str(tmp_path / "evaluation.yaml"))
    assert command.main(plain) == 0, "its settings can be used again"
    assert json.loads((tmp_path / "again" / "val_predictions.json").read_text()) == validated


def test_the_help_of_evaluation_explains_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    assert "--tile_size SIZE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tile_size", "40", "--tile_overlap", "1"), "--tile_overlap must be at least 0 and below 1, not 1.0"),
        (("--tile_overlap", "0.1"), "--tile_overlap has no effect without --tile_size; give both or neither"),
        (
            ("--tile_size", "0"),
            "--tile_size 0 is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)",
        ),
    ],
)
def test_settings_that_make_no_tiles_are_refused(
    finished: Config, tmp_path: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(flags_of(finished, tmp_path / "out", "--only_evaluate", *flags)) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_training_in_tiles_is_refused(
    settings: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path / "out", tile_size=40)
    with pytest.raises(InputError, match="tile_size is for evaluation and prediction; add --only_evaluate or leave"):
        fit(config)
    write_config(config, tmp_path / "run.yaml")
    assert command.main(["--config", str(tmp_path / "run.yaml")]) == 2
    assert "--only_evaluate or leave it out\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
