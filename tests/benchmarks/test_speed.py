"""The table of speeds and its parts, without the measurements, which run for minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.speed import __main__ as command
from benchmarks.speed import clock
from benchmarks.speed.process import Measurement
from benchmarks.speed.rows import rows_of
from benchmarks.speed.scenes import write_scenes
from benchmarks.speed.table import Row, is_reached, table
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError
from dino_detector.validate import coco_metrics


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    """Ours 10, 20, 90 against 5, 40, 30: medians 20 and 30, ratios 2, 0.5 and 3."""
    ours, peer = Measurement("ours", "ours", "training"), Measurement("peer", "rf_detr", "training")
    numbers = {"ours": iter([10.0, 20.0, 90.0]), "rf_detr": iter([5.0, 40.0, 30.0])}
    asked = []

    def measure(measurement: Measurement) -> dict[str, float]:
        asked.append(measurement.module)
        return {"images_per_second": next(numbers[measurement.module]), "peak_memory_bytes": 2**30}

    rows = [
        Row("training", "images_per_second", ">= 2", ours, peer),
        Row("memory", "peak_memory_bytes", "<= 0.5", ours, peer),
        Row("alone", "images_per_second", "", ours),
    ]
    lines = table(rows, measure, rounds=3).splitlines()
    assert asked == ["ours", "rf_detr"] * 3  # rows share a measurement in each round
    assert lines[2] == "| training | 20.00 | 30.00 | 2.00 | >= 2 | reached |"
    assert lines[3] == "| memory | 1.00 GiB | 1.00 GiB | 1.00 | <= 0.5 | missed |"
    assert lines[4] == "| alone | 20.00 |  |  |  |  |"


def test_a_failed_measurement_fails_its_own_rows_alone(capsys: pytest.CaptureFixture[str]):
    ours, other = Measurement("ours", "ours", "training"), Measurement("other", "ours", "latency")
    peer = Measurement("peer", "rf_detr", "training")
    asked = []

    def measure(measurement: Measurement) -> dict[str, float]:
        asked.append(measurement.title)
        if measurement is peer and asked.count("peer") == 2:
            raise InputError("out of memory")
        return {"seconds": 3.0}

    rows = [
        Row("beside", "seconds", "<= 1", ours, peer),
        Row("alone", "seconds", "<= 4", ours),
        Row("z", "seconds", "", other),
    ]
    lines = table(rows, measure, rounds=3).splitlines()
    assert asked == ["ours", "peer", "other"] * 2 + ["ours", "other"]  # the failed measurement does not run again
    assert lines[2] == "| beside | | | | <= 1 | failed |"
    assert lines[3] == "| alone | 3.0 s |  |  | <= 4 | reached |"
    assert lines[4] == "| z | 3.0 s |  |  |  |  |"
    assert "error: out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "target", "reached"),
    [(4, ">= 4", True), (3.99, ">= 4", False), (0.4, "<= 0.4", True), (1, "<= 0.4", False)],
)
def test_a_target_includes_its_bound(value: float, target: str, reached: bool):
    assert is_reached(value, target) == reached


def test_rows_without_rf_detr_do_not_install_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def installs(_: Path | None) -> Path:
        raise AssertionError("installs RF-DETR")

    monkeypatch.setattr(command, "rf_detr_python", installs)
    monkeypatch.setattr(command, "measure_in_process", lambda *_, **__: {"seconds": 1.0})
    monkeypatch.setattr("sys.argv", ["speed", "--only", "evaluation", "--rounds", "1"])
    command.main()
    assert "| 1000 ms | 1000 ms | 1.00 | <= 0.1 | missed |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["speed", "--only", "evaluation", "matching", "--rounds", "1"])
    with pytest.raises(AssertionError, match="installs RF-DETR"):
        command.main()


def test_all_rows_name_existing_measurements():
    from benchmarks.speed import evaluation, ours, start

    modules = {"ours": ours, "evaluation": evaluation, "start": start}
    data = {"train_images": "pictures", "train_annotations": "listing"}
    rows = [row for of_name in rows_of(data, data, data, best="bf16").values() for row in of_name]
    assert len({row.title for row in rows}) == len(rows) > 10
    for measurement in (one for row in rows for one in (row.ours, row.peer) if one is not None):
        json.dumps(measurement.settings)
        if measurement.module != "rf_detr":  # needs another environment
            assert callable(getattr(modules[measurement.module], measurement.name))


def test_a_clock_counts_the_steps_after_the_warm_up(monkeypatch: pytest.MonkeyPatch):
    """Steps of 10 and 9 seconds warm up; steps of 1, 2 and 6 seconds count."""
    ends = iter([0.0, 10.0, 19.0, 20.0, 22.0, 28.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(ends))
    steps = clock.Clock(warm_up=2, steps=3)
    assert [steps.tick() for _ in range(6)] == [False] * 5 + [True]
    assert steps.seconds == 2.0


def test_scenes_are_a_valid_data_set(tmp_path: Path):
    places = write_scenes(tmp_path / "scenes", images=3, boxes=10)
    annotations = CocoAnnotations.read(Path(places["train_annotations"]))
    assert [len(of_image) for of_image in (annotations.images, annotations.categories)] == [3, 80]
    assert annotations.training.starts.tolist() == [0, 10, 20, 30]
    for image in Path(places["train_images"]).iterdir():
        assert Image.open(image).size == (640, 480)


def test_an_evaluation_case_has_detections_near_boxes_and_elsewhere():
    from benchmarks.speed import evaluation

    truth, results = evaluation.case(images=40, detections=10)
    assert len(results) == 400
    assert {row["image_id"] for row in results} == {image["id"] for image in truth["images"]}
    metrics = coco_metrics(truth, results)
    assert 0.02 < metrics.AP < 0.9


def test_a_grouped_convolution_has_fewer_operations_than_a_dense_one():
    """Each of 2 * 8 * 10 * 10 outputs sums 49 products; the two gradients have as many operations each."""
    from benchmarks.speed.ours import _operations

    convolution = torch.nn.Conv2d(8, 8, 7, padding=3, groups=8)
    with _operations() as counter:
        convolution(torch.randn(2, 8, 10, 10, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 8 * 100 * 49)
