"""A run in Python: training, history, views, resuming, interruption, evaluation, prediction."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import signal
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import supervision
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

import dino_detector as dd
from dino_detector.api import report as report_module


class Interrupting(Callback):
    """Sends the signal of Ctrl-C in the second epoch, as a notebook does."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            os.kill(os.getpid(), signal.SIGINT)


class Counting(Callback):
    """Counts epochs."""

    epochs = 0

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.epochs += 1


def test_a_run_has_files_metrics_and_a_record_for_each_epoch(run: dd.Run):
    assert run.best.name == "dino_detector_best.pth"
    assert run.last.is_file()
    content = json.loads((run.folder / "val_metrics_epoch_2.json").read_text())
    assert pytest.approx(content["AP"]) == run.metrics.AP
    with (run.folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    records = run.records
    parts = [value for name, value in records[0].items() if name.startswith("loss_")]
    assert records[0]["loss"] == pytest.approx(sum(parts), rel=1e-4), "the parts add up to the loss"
    assert records[1]["AP"] == pytest.approx(run.metrics.AP) or run.metrics.AP == -1
    assert all(record["learning_rate"] > 0 and record["images_per_second"] > 0 for record in records)
    assert len(run.history) == 2


def test_a_run_is_found_again_in_its_folder(run: dd.Run):
    again = dd.Run.open(run.folder)
    assert again.metrics == run.metrics
    assert again.records == run.records
    assert again.config.training.epochs == 2


def test_a_copy_of_metrics_is_no_evaluation(run: dd.Run, tmp_path: Path):
    for name in ("dino_detector_last.pth", "val_metrics_epoch_2.json"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    (tmp_path / "val_metrics_epoch_10_copy.json").write_text("{}")
    assert dd.Run.open(tmp_path).metrics == run.metrics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_dir": "elsewhere"}, "output_dir is not for resume"),
        ({"only_evaluate": True}, "only_evaluate is not for resume"),
        ({"debug_lr": 1e-3}, "debug_lr has no effect without debug"),
        ({"tile_size": 512}, r"call evaluate\(data, checkpoint"),
        ({"callbacks": [print]}, "callbacks must be of lightning"),
        ({"epohcs": 3}, "epohcs is no setting"),
    ],
)
def test_resume_refuses_what_has_no_effect(run: dd.Run, settings: dict[str, Any], message: str):
    with pytest.raises(dd.InputError, match=message):
        run.resume(**settings)


def test_views_fit_a_screen_and_escape_names(run: dd.Run):
    text = repr(run.detector)
    assert len(text.splitlines()) < 12
    assert max(map(len, text.splitlines())) < 160
    assert "4 classes: circle, triangle, square, star" in text
    assert "on 4 images, after epoch" in text or "not measured" in text
    assert str(run.best) in repr(run)
    assert len(repr(run.metrics)) < 120
    row = dd.CocoMetrics(*[0.5] * 12, per_class=(), num_images=1, num_detections=2)
    assert "0.500" in row._repr_html_()
    for one in (run, run.detector, run.metrics):
        assert "<table>" in one._repr_html_()
    from dino_detector.structures.html import html_table

    assert "<script>" not in html_table(["<script>"], [["<script>"]])


def test_the_detector_of_a_checkpoint_says_how_good_it_was(run: dd.Run):
    metrics = json.loads((run.folder / "val_metrics_epoch_2.json").read_text())
    detector = dd.Detector.load(run.folder / "dino_detector_epoch_2.pth", device="cpu")
    assert detector.header.evaluation == {
        "epoch": 2,
        "images": 4,
        "AP": pytest.approx(metrics["AP"]),
        "AP50": pytest.approx(metrics["AP50"]),
    }


def test_a_resumed_run_keeps_the_records_of_earlier_epochs(
    run: dd.Run, drawn: Path, small: dict[str, Any], tmp_path: Path
):
    first = dd.train(drawn, epochs=1, output_dir=tmp_path, **small)
    before = first.records
    resumed = dd.train(drawn, epochs=2, output_dir=tmp_path, checkpoint=first.last, **small)
    assert [record["epoch"] for record in resumed.records] == [1, 2]
    assert resumed.records[0] == before[0]
    counting = Counting()
    longer = dd.Run.open(tmp_path).resume(epochs=3, callbacks=[counting])
    assert counting.epochs == 1
    assert [record["epoch"] for record in longer.records] == [1, 2, 3]
    assert longer.records[:2] == resumed.records


def test_an_interrupted_run_can_be_resumed_and_leaves_the_process_as_it_was(
    drawn: Path, small: dict[str, Any], tmp_path: Path
):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(dd.StoppedByUser, match=r"resume with the same settings and checkpoint .*last\.pth"):
        dd.train(drawn, epochs=2, output_dir=tmp_path, callbacks=[Interrupting()], **small)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert not list(tmp_path.glob("*.lock"))
    run = dd.Run.open(tmp_path)
    assert [record["epoch"] for record in run.records] == [1]
    done = dd.train(drawn, epochs=2, output_dir=tmp_path, checkpoint=run.last, **small)
    assert [record["epoch"] for record in done.records] == [1, 2]
    assert done.records[0] == run.records[0]


def test_callbacks_and_loggers_of_lightning_may_be_passed(drawn: Path, small: dict[str, Any], tmp_path: Path):
    counting, logger = Counting(), CSVLogger(tmp_path / "logs", name="mine", version="1")
    dd.train(drawn, epochs=1, output_dir=tmp_path, callbacks=[counting], loggers=[logger], **small)
    assert counting.epochs == 1
    with (tmp_path / "logs" / "mine" / "1" / "metrics.csv").open() as file:
        assert any(row.get("train/loss") for row in csv.DictReader(file))
    with pytest.raises(dd.InputError, match="callbacks must be of lightning"):
        dd.train(drawn, callbacks=[print], **small)


def test_the_log_is_visible_unless_the_user_has_configured_logging(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    logger = logging.getLogger("dino_detector")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    before = logger.level, list(logger.handlers)
    from dino_detector.api.calling import visible_log

    shown = io.StringIO()
    with redirect_stdout(shown), visible_log():
        logger.info("a line with --epochs")
        with visible_log():
            logger.info("once")
    assert shown.getvalue() == "a line with epochs\nonce\n"
    assert (logger.level, list(logger.handlers)) == before
    own = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    with redirect_stdout(shown), visible_log():
        logger.warning("mine")
    assert "mine" not in shown.getvalue()
    assert own.stream.getvalue() == "mine\n"


def test_the_log_is_visible_beside_a_handler_for_warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from dino_detector.api.calling import visible_log

    logger, root = logging.getLogger("dino_detector"), logging.getLogger()
    own, shown = logging.StreamHandler(io.StringIO()), io.StringIO()
    monkeypatch.setattr(root, "handlers", [own])
    caplog.set_level(logging.WARNING)
    with redirect_stdout(shown), visible_log():
        logger.info("epoch 1")
        logger.warning("careful")
    assert (shown.getvalue(), own.stream.getvalue()) == ("epoch 1\n", "careful\n"), "each line once"
    assert logger.propagate
    caplog.set_level(logging.INFO)
    with redirect_stdout(shown), visible_log():
        logger.info("epoch 2")
    assert own.stream.getvalue() == "careful\nepoch 2\n"
    assert "epoch 2" not in shown.getvalue()


def test_an_evaluation_gives_metrics_of_each_class_and_a_page(
    run: dd.Run, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    report = dd.evaluate(drawn, checkpoint=run.best, output_dir=tmp_path, device="cpu", num_workers=0)
    written = json.loads((tmp_path / "val_metrics.json").read_text())
    assert pytest.approx(written["AP"]) == report.AP
    assert [one.name for one in report.per_class] == ["circle", "triangle", "square", "star"]
    assert report.detections == json.loads((tmp_path / "val_predictions.json").read_text())
    assert str(tmp_path) in repr(report)
    assert "circle" in report._repr_html_()
    shown: list[Path] = []
    monkeypatch.setattr(report_module, "show_page", shown.append)
    page = report.show()
    assert shown == [page]
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")


def test_predictions_are_detections_of_supervision_and_files_as_of_the_command(
    run: dd.Run, drawn: Path, tmp_path: Path
):
    (tmp_path / "pictures").mkdir()
    pictures = sorted((drawn / "val").iterdir())
    broken = tmp_path / "pictures" / "broken.jpg"
    broken.write_bytes(b"no picture")
    settings = {"checkpoint": run.best, "threshold": 0.0, "output_dir": tmp_path / "found", "device": "cpu"}
    found = dd.predict([pictures[0], broken, pictures[1]], **settings)
    assert found.pictures == pictures[:2]
    assert len(found.unreadable) == 1
    assert "broken.jpg" in found.unreadable[0]
    assert all(isinstance(one, supervision.Detections) and len(one) for one in found)
    alone = run.detector.predict(pictures[0], threshold=0.0)
    assert found[0].confidence == pytest.approx(alone.confidence, abs=0.02)
    assert (tmp_path / "found" / "predictions.json").is_file()
    with pytest.raises(dd.InputError, match=r"broken\.jpg"):
        dd.predict(broken, **settings)
    with pytest.raises(dd.InputError, match="takes paths, not ndarray"):
        dd.predict(alone.xyxy, **settings)
    folder = dd.predict(drawn / "val", **settings | {"checkpoint": [run.best, run.last]})
    assert len(folder) == 4
    assert [len(one) for one in folder] == [2] * 4


def test_the_check_of_a_data_set_gives_findings(drawn: Path):
    report = dd.check_data(drawn)
    splits = {one["name"]: one["images"] for one in report.to_dict()["splits"]}
    assert splits == {"train": 8, "val": 4}
    assert "train 8 images" in repr(report)
    assert "Counts" in str(report)
    assert "<table>" in report._repr_html_()
    assert [problem.kind.name for problem in report.problems[:3]] == report.to_dict()["most_worth_fixing"]


def test_several_processes_train_beside_this_program(drawn: Path, small: dict[str, Any], tmp_path: Path):
    settings = small | {"distributed": True, "world_size": 2, "epochs": 1, "output_dir": tmp_path}
    with pytest.raises(dd.InputError, match=r"distributed trains in other processes, which callbacks can't reach"):
        dd.train(drawn, callbacks=[Interrupting()], **settings)
    with pytest.raises(dd.InputError, match="absent"):
        dd.train("absent", **settings)
    assert [record["epoch"] for record in dd.train(drawn, **settings).records] == [1]
