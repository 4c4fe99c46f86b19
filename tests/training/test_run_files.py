"""The files of a run: their names and contents, and their equality with the evaluated detector."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dino_detector.inference.detector import Detector
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.training.evaluation import evaluate
from dino_detector.validate import coco_metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory, train, frozen_base):
    """Train adapters and decoder for three epochs on a frozen base, evaluated after epochs 2 and 3."""
    return train(
        tmp_path_factory.mktemp("run"),
        **frozen_base,
        val_frequency=2,
    )


@pytest.fixture(scope="module")
def learning(tmp_path_factory, train, train_split, frozen_base):
    """Overfit the images with dropout, evaluated on the same images after epochs 6 and 12."""
    return train(
        tmp_path_factory.mktemp("run"),
        **frozen_base,
        lora_dropout=0.1,
        decoder_dropout=0.1,
        augmentation=True,
        resize_mode="letterbox",
        image_size="84x112",
        box_head_dim=64,
        num_queries=16,
        learning_rate=4e-3,
        gradient_clip=1.0,
        epochs=12,
        val_frequency=6,
        val_images=train_split.images,
        val_annotations=train_split.annotations,
    )


@pytest.fixture
def quickly(train):
    """Train on one batch an epoch, with few weights."""
    return partial(train, batch_size=8, train_backbone="none", decoder_layers=1, num_queries=4)


KINDS = ("epoch_2", "epoch_3", "best", "last", "final")


def pycocotools_metrics(run, checkpoint, batch_size: int = 3) -> list[float]:
    """Return the 12 COCO numbers of the detections of `Detector.predict` in the validation images."""
    data = run.config.data
    detector = Detector.load(checkpoint, device="cpu")
    content = json.loads(data.val_annotations.read_text())
    paths = [data.val_images / image["file_name"] for image in content["images"]]
    results = []
    for image, found in zip(
        content["images"], detector.predict(paths, threshold=0, batch_size=batch_size), strict=True
    ):
        for (left, top, right, bottom), score, category in zip(
            found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True
        ):
            bbox = [left, top, right - left, bottom - top]
            results.append({"image_id": image["id"], "category_id": category, "bbox": bbox, "score": score})
    return pycocotools_scores(data.val_annotations, results)


def pycocotools_scores(annotations: Path, results: list[dict[str, Any]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        scoring = COCOeval(truth, truth.loadRes(results), "bbox")
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return scoring.stats.tolist()


def twelve(metrics: dict[str, float]) -> list[float]:
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    return [metrics[name] for name in names]


def test_files_are_named_by_epochs_from_1_and_the_last_epoch_is_evaluated(finished):
    files = sorted(path.name for path in finished.folder.iterdir() if path.is_file())
    assert files == [
        "config.yaml",
        "dino_detector_best.pth",
        "dino_detector_epoch_2.pth",
        "dino_detector_epoch_3.pth",
        "dino_detector_final.pth",
        "dino_detector_last.pth",
        "history.csv",
        "val_metrics_epoch_2.json",
        "val_metrics_epoch_3.json",
        "val_predictions_epoch_2.json",
        "val_predictions_epoch_3.json",
    ]


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_metrics_file_names_the_detections_and_the_data_that_give_its_numbers(finished, val_split, epoch):
    path = finished.folder / f"val_metrics_epoch_{epoch}.json"
    files = EvaluationFiles.named_in(path, json.loads(path.read_text()))
    assert (files.images, files.annotations) == (val_split.images, val_split.annotations)
    results = json.loads(files.predictions.read_text())
    metrics = coco_metrics(json.loads(files.annotations.read_text()), results)
    assert metrics == CocoMetrics.read(files.metrics)


@pytest.mark.parametrize("epoch", [6, 12])
def test_metrics_file_equals_pycocotools_on_what_the_checkpoint_predicts(learning, epoch):
    written = json.loads((learning.folder / f"val_metrics_epoch_{epoch}.json").read_text())
    independent = pycocotools_metrics(learning, learning.folder / f"dino_detector_epoch_{epoch}.pth")
    assert twelve(written) == pytest.approx(independent, abs=2e-3)
    assert written["num_images"] == 7
    assert independent[1] > 0.1, "an AP50 of nothing would show nothing"


def test_metrics_file_tells_what_it_took(finished):
    second, third = (json.loads((finished.folder / f"val_metrics_epoch_{n}.json").read_text()) for n in (2, 3))
    assert (second["epoch"], second["step"], second["images_seen"]) == (2, 8, 14)
    assert (third["epoch"], third["step"], third["images_seen"]) == (3, 12, 21)
    assert 0 < second["seconds"] <= third["seconds"]
    assert second["peak_memory_bytes"] > 100e6


def test_returned_metrics_are_those_of_the_last_epoch(finished):
    written = json.loads((finished.folder / "val_metrics_epoch_3.json").read_text())
    assert finished.metrics.AP == written["AP"]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_a_checkpoint_gives_the_metrics_that_were_written(finished, kind):
    epoch = finished.checkpoint(kind)["epoch"] + 1
    written = json.loads((finished.folder / f"val_metrics_epoch_{epoch}.json").read_text())
    checkpoint = finished.folder / f"dino_detector_{kind}.pth"
    config = replace(finished.config, training=replace(finished.config.training, checkpoint=checkpoint))
    found = evaluate(config)
    metrics, results = found.metrics, found.results
    assert twelve(vars(metrics)) == pytest.approx(twelve(written), abs=2e-3)
    assert pycocotools_scores(config.data.val_annotations, results) == pytest.approx(twelve(vars(metrics)), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_holds_the_trained_weights_and_none_of_the_base(finished, kind):
    checkpoint = finished.checkpoint(kind)
    names = set(checkpoint["state_dict"])
    assert all(name.startswith("detector.") for name in names)
    of_backbone = {name for name in names if name.startswith("detector.backbone.")}
    assert len(of_backbone) == 4  # A and B of query and value, in one layer
    assert all("lora_" in name for name in of_backbone)
    assert names == set(checkpoint["current_model_state"])
    assert checkpoint["dino_detector"]["category_ids"] == [4, 9]
    assert checkpoint["dino_detector"]["category_names"] == ["brick", "tile"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_checkpoint_detects_with_the_ids_and_names_of_the_annotations(finished, kind):
    detector = Detector.load(finished.folder / f"dino_detector_{kind}.pth", device="cpu")
    found = detector.predict(torch.zeros(3, 30, 50, dtype=torch.uint8), threshold=0)
    names = {4: "brick", 9: "tile"}
    assert len(found) == 16  # 8 queries x 2 classes
    assert [names[class_id] for class_id in found.class_id.tolist()] == found.data["class_name"].tolist()
    assert found.xyxy.min() >= 0
    assert found.xyxy[:, 2].max() <= 50
    assert found.xyxy[:, 3].max() <= 30


def test_best_checkpoint_is_the_epoch_of_the_highest_ap(tmp_path, quickly, monkeypatch):
    precisions = iter([0.2, 0.5, 0.5, 0.4])

    def scripted(*args, **kwargs):
        return replace(original(*args, **kwargs), AP=next(precisions))

    from dino_detector.training import module

    original = module.coco_metrics
    monkeypatch.setattr(module, "coco_metrics", scripted)
    run = quickly(tmp_path, epochs=4)
    assert [run.checkpoint(kind)["epoch"] + 1 for kind in ("best", "last", "final")] == [2, 4, 4]


def test_best_ap_is_remembered_over_a_resumption(tmp_path, quickly, monkeypatch):
    from dino_detector.training import module

    precisions = iter([0.5, 0.2, 0.3])
    original = module.coco_metrics
    monkeypatch.setattr(module, "coco_metrics", lambda *a, **k: replace(original(*a, **k), AP=next(precisions)))
    quickly(tmp_path, epochs=1)
    run = quickly(tmp_path, epochs=3, checkpoint=tmp_path / "dino_detector_last.pth")
    assert [run.checkpoint(kind)["epoch"] + 1 for kind in ("best", "final")] == [1, 3]


def test_files_of_an_earlier_run_are_moved_aside(tmp_path, quickly):
    first = quickly(tmp_path, epochs=2)
    (tmp_path / "config.yaml").write_text("epochs: 2\n")
    (tmp_path / "notes.txt").write_text("mine")
    endings = (".pth", ".json", ".yaml", ".csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in endings}
    quickly(tmp_path, epochs=1, seed=1)
    (aside,) = tmp_path.glob("earlier_*")
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [
        "dino_detector_best.pth",
        "dino_detector_epoch_1.pth",
        "dino_detector_final.pth",
        "dino_detector_last.pth",
    ]
    assert first.checkpoint("epoch_1")["dino_detector"]["config"]["seed"] == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_weights_alone_beside_a_resumed_run_are_moved_aside(tmp_path, quickly):
    """The best checkpoint may be the user's own, without the state of a run."""
    quickly(tmp_path, epochs=2)
    Detector.load(tmp_path / "dino_detector_epoch_2.pth", device="cpu").save(tmp_path / "dino_detector_best.pth")
    before = (tmp_path / "dino_detector_best.pth").read_bytes()
    quickly(tmp_path, epochs=2, checkpoint=tmp_path / "dino_detector_epoch_1.pth")
    (aside,) = tmp_path.glob("earlier_*")
    assert (aside / "dino_detector_best.pth").read_bytes() == before


def test_earlier_runs_never_overwrite_each_other(tmp_path, quickly):
    for seed in range(3):
        quickly(tmp_path, epochs=1, seed=seed)
        for file in tmp_path.glob("*.*"):
            os.utime(file, (1e9, 1e9))  # all files get the same time
    finals = [*tmp_path.glob("earlier_*/dino_detector_final.pth"), tmp_path / "dino_detector_final.pth"]
    seeds = [torch.load(final, weights_only=True)["dino_detector"]["config"]["seed"] for final in finals]
    assert sorted(seeds) == [0, 1, 2]


def test_resuming_from_elsewhere_moves_an_earlier_run_aside(tmp_path, quickly):
    other = quickly(tmp_path / "other", epochs=1)
    quickly(tmp_path / "here", epochs=1, seed=1)
    quickly(tmp_path / "here", epochs=2, checkpoint=other.folder / "dino_detector_last.pth")
    (aside,) = (tmp_path / "here").glob("earlier_*")
    assert (aside / "dino_detector_epoch_1.pth").exists()
    assert not (tmp_path / "here" / "dino_detector_epoch_1.pth").exists()


def test_resuming_in_place_keeps_earlier_epochs(tmp_path, quickly):
    quickly(tmp_path, epochs=1)
    quickly(tmp_path, epochs=2, checkpoint=tmp_path / "dino_detector_last.pth")
    assert (tmp_path / "dino_detector_epoch_1.pth").exists()
    assert not list(tmp_path.glob("earlier_*"))


def test_no_unfinished_file_is_left(finished):
    assert not [path for path in finished.folder.rglob("*") if ".tmp" in path.name]
