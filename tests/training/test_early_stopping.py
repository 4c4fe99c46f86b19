"""Early stopping: when a run stops, its files and messages, and its resumption."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError, StoppedByUser
from dino_detector.training import module
from dino_detector.training.early_stopping import build_early_stopping
from dino_detector.training.run_data import SplitData


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the following evaluations return these APs, one after the other."""
    original = module.coco_metrics

    def script(*precisions: float) -> None:
        left = iter(precisions)
        monkeypatch.setattr(module, "coco_metrics", lambda *a, **k: replace(original(*a, **k), AP=next(left)))

    return script


@pytest.fixture
def train(train: Callable[..., Any]) -> Callable[..., Any]:
    """Train on one batch an epoch, with few weights."""
    return partial(train, batch_size=8, train_backbone="none", decoder_layers=1, num_queries=4)


def epochs_of(run: Any, *kinds: str) -> list[int]:
    return [run.checkpoint(kind)["epoch"] + 1 for kind in kinds]


PATIENT = {"epochs": 10, "early_stopping_patience": 2, "logger": []}


@pytest.mark.parametrize(
    ("precisions", "min_delta", "last", "best"),
    [
        pytest.param([0.2, 0.5, 0.4, 0.6, 0.5, 0.6], 0.0, 6, 4, id="recovers"),
        pytest.param([0.2, 0.5, 0.505, 0.515, 0.51, 0.52], 0.01, 6, 6, id="rises slowly"),
        pytest.param([0.0, 0.0, 0.0], 0.0, 3, 1, id="finds nothing"),
    ],
)
def test_a_run_stops_after_so_many_evaluations_without_a_better_ap(
    tmp_path, train, scripted, precisions, min_delta, last, best
):
    scripted(*precisions)
    run = train(tmp_path, **PATIENT, early_stopping_min_delta=min_delta)
    assert epochs_of(run, "best", "last", "final") == [best, last, last]
    assert run.metrics.AP == precisions[-1]
    files = {path.name for path in tmp_path.glob("*_epoch_*")}
    kinds = ("dino_detector_epoch_{}.pth", "val_metrics_epoch_{}.json", "val_predictions_epoch_{}.json")
    assert files == {kind.format(epoch) for kind in kinds for epoch in range(1, last + 1)}


def test_a_run_that_gets_better_trains_all_its_epochs(tmp_path, train, scripted, caplog):
    scripted(0.1, 0.2, 0.15, 0.3, 0.2, 0.1)
    with caplog.at_level(logging.INFO, logger="dino_detector"):
        run = train(tmp_path, **PATIENT | {"epochs": 6})
    assert epochs_of(run, "best", "final") == [4, 6]
    assert "stopped early" not in caplog.text


def test_without_patience_nothing_is_stopped_and_the_best_epoch_is_said(tmp_path, train, scripted, caplog):
    scripted(0.2, 0.5, 0.1, 0.5, 0.1)
    with caplog.at_level(logging.INFO, logger="dino_detector"):
        run = train(tmp_path, epochs=5)
    assert epochs_of(run, "best", "final") == [2, 5]
    assert f"the best AP, 0.500, is from epoch 2: {tmp_path / 'dino_detector_best.pth'}" in caplog.text


def test_patience_counts_evaluations_and_not_epochs(tmp_path, train, scripted):
    scripted(0.5, 0.4, 0.3)
    run = train(tmp_path, **PATIENT, val_frequency=2)
    assert epochs_of(run, "best", "final") == [2, 6]


def test_it_says_why_it_stopped_and_which_file_to_use(tmp_path, train, scripted, caplog):
    scripted(0.2, 0.5, 0.4, 0.3)
    with caplog.at_level(logging.INFO, logger="dino_detector"):
        run = train(tmp_path, **PATIENT | {"epochs": 20}, schedule="wsd")
    assert epochs_of(run, "best", "final") == [2, 4]
    lines = [record.getMessage() for record in caplog.records]
    assert "stopped early after epoch 4 of 20: no AP above 0.500 in the last 2 evaluations" in lines
    assert "the learning rate was still at 100 % of its peak; it falls in a run with --epochs 4" in lines
    assert f"the best AP, 0.500, is from epoch 2: {tmp_path / 'dino_detector_best.pth'}" in lines
    (epoch,) = (line for line in lines if line.startswith("epoch  4/20"))
    assert epoch.endswith("0:00:00 left")


def test_it_does_not_speak_of_a_rate_that_has_fallen(tmp_path, train, scripted, caplog):
    """After 20 of 24 steps the cosine is at 8 %."""
    scripted(*[0.5] * 5)
    with caplog.at_level(logging.INFO, logger="dino_detector"):
        changes = {"epochs": 6, "early_stopping_patience": 4, "schedule": "cosine", "warmup_fraction": 0.0}
        run = train(tmp_path, **PATIENT | changes | {"batch_size": 2})
    assert epochs_of(run, "best", "final") == [1, 5]
    assert "stopped early after epoch 5 of 6" in caplog.text
    assert "of its peak" not in caplog.text


def test_a_resumed_run_names_the_best_that_is_there(tmp_path, train, scripted, caplog):
    """In the same folder the best of the later epochs is moved away, so the first is the best again; in another folder
    there is none."""
    scripted(0.5, 0.4, 0.6)
    train(tmp_path / "here", epochs=3)
    second = tmp_path / "here" / "dino_detector_epoch_2.pth"
    for folder, best in (("there", "in the folder of the resumed run"), ("here", "dino_detector_best.pth")):
        caplog.clear()
        scripted(0.3)
        with caplog.at_level(logging.INFO, logger="dino_detector"):
            train(tmp_path / folder, epochs=3, checkpoint=second)
        (line,) = (line for line in caplog.messages if line.startswith("the best AP, 0.500, is from epoch 1: "))
        assert line.endswith(best)


def interrupting(epoch: int) -> LambdaCallback:
    """Press Ctrl-C in the evaluation of an epoch, counted from 1."""

    def press(trainer: Trainer, _: LightningModule) -> None:
        if trainer.current_epoch + 1 == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    return LambdaCallback(on_validation_start=press)


def test_a_resumed_run_stops_where_it_would_have(tmp_path, train, scripted):
    precisions = [0.2, 0.5, 0.4, 0.45, 0.3]
    changes = PATIENT | {"early_stopping_patience": 3}
    scripted(*precisions)
    unbroken = train(tmp_path / "unbroken", **changes)
    scripted(*precisions)
    with pytest.raises(StoppedByUser):
        train(tmp_path / "parts", interrupting(3), **changes)
    resumed = train(tmp_path / "parts", **changes, checkpoint=tmp_path / "parts" / "dino_detector_last.pth")
    for run in (unbroken, resumed):
        assert epochs_of(run, "best", "final") == [2, 5]
    state, other = (run.checkpoint("final")["callbacks"] for run in (unbroken, resumed))
    assert state["early_stopping"] == other["early_stopping"]
    assert state["RunFiles"]["best_epoch"] == other["RunFiles"]["best_epoch"] == 2


def test_ctrl_c_while_it_stops_loses_nothing(tmp_path, train, scripted):
    scripted(0.5, 0.4, 0.3)
    run = train(tmp_path, interrupting(3), **PATIENT)
    assert epochs_of(run, "final") == [3]


def test_a_run_that_has_stopped_goes_on_with_more_patience_or_none(tmp_path, train, scripted):
    scripted(0.5, 0.4, 0.3)
    stopped = train(tmp_path / "stopped", **PATIENT)
    final = stopped.folder / "dino_detector_final.pth"
    message = "has had 2 evaluations without a better AP already; give more patience with --early_stopping_patience"
    for patience in (1, 2):
        with pytest.raises(InputError, match=message):
            train(tmp_path / "refused", epochs=10, early_stopping_patience=patience, checkpoint=final)
    assert not (tmp_path / "refused").exists()
    scripted(0.45, 0.4)
    more = train(tmp_path / "more", **PATIENT | {"early_stopping_patience": 4}, checkpoint=final)
    assert epochs_of(more, "final") == [5]
    scripted(0.1, 0.1)
    off = train(tmp_path / "off", **PATIENT | {"early_stopping_patience": 0, "epochs": 5}, checkpoint=final)
    assert epochs_of(off, "final") == [5]


def test_there_must_be_an_ap_to_watch(tmp_path, train, val_split):
    wanted = "^early_stopping_patience needs the AP of validation images"
    with pytest.raises(InputError, match=f"{wanted}; give --val_images and --val_annotations"):
        train(tmp_path / "out", **PATIENT, val_images=None, val_annotations=None)
    nothing = tmp_path / "none.json"
    nothing.write_text(json.dumps(json.loads(val_split.annotations.read_text()) | {"annotations": []}))
    with pytest.raises(InputError, match=rf"{wanted}, but .*none\.json has no boxes"):
        train(tmp_path / "out", **PATIENT, val_annotations=nothing)
    assert not (tmp_path / "out").exists()


def test_test_images_are_searched_after_an_early_stop(tmp_path, train, scripted, val_split):
    scripted(0.5, 0.4, 0.3)
    train(tmp_path, **PATIENT, testdev_images=val_split.images)
    assert json.loads(Path(tmp_path / "testdev_predictions_final.json").read_text())


def test_a_resumed_run_that_begins_to_watch_knows_the_best_ap_before(tmp_path, train, scripted):
    """The first part has no patience, but the run remembers its best AP of 0.5, so 0.4 is not a new best."""
    scripted(0.2, 0.5)
    train(tmp_path, epochs=2, logger=[])
    scripted(0.4, 0.45, 0.6)
    resumed = {"checkpoint": tmp_path / "dino_detector_last.pth"}
    run = train(tmp_path, **PATIENT, **resumed)
    assert epochs_of(run, "best", "final") == [2, 4]


def test_patience_that_no_run_of_that_length_can_lose_is_told_of(settings, val_split, tmp_path, caplog):
    val = SplitData(val_split.images, CocoAnnotations.read(val_split.annotations), "val")
    config = settings(tmp_path, epochs=6, val_frequency=2, early_stopping_patience=3)
    assert build_early_stopping(config.training, val).patience == 3
    assert (
        "--early_stopping_patience 3 never stops this run, which has 3 evaluations in 6 epochs; lower it, or --val_f"
        in caplog.text
    )
