"""The LightningModule: randomness of a step, and the results of an evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dino_detector.inference.detector import build_detector
from dino_detector.losses import build_criterion
from dino_detector.structures.categories import Categories
from dino_detector.training.evaluation import evaluate
from dino_detector.training.fit import fit
from dino_detector.training.module import DetectorModule
from dino_detector.validate import coco_metrics


def test_dropout_draws_anew_for_every_batch_epoch_and_process(settings, tmp_path):
    config = settings(tmp_path)
    detector = build_detector(config, categories=Categories((1,), ("a",)))
    module = DetectorModule(detector=detector, criterion=build_criterion(config))

    def draw(epoch: int, batch: int, rank: int) -> float:
        module.trainer = SimpleNamespace(current_epoch=epoch, world_size=2, global_rank=rank)
        module.on_train_batch_start(None, batch)
        return torch.rand(1, dtype=torch.float64).item()

    places = [(epoch, batch, rank) for epoch in range(3) for batch in range(3) for rank in range(2)]
    drawn = [draw(*place) for place in places]
    assert len(set(drawn)) == len(places)
    assert [draw(*place) for place in places] == drawn


@pytest.fixture(scope="module")
def finished(tmp_path_factory, train):
    run = train(tmp_path_factory.mktemp("run"), epochs=1)
    checkpoint = run.folder / "dino_detector_final.pth"
    return replace(run.config, training=replace(run.config.training, checkpoint=checkpoint))


def test_results_carry_the_ids_of_the_annotations(finished, val_split):
    found = evaluate(finished)
    metrics, results = found.metrics, found.results
    truth = json.loads(val_split.annotations.read_text())
    assert {result["image_id"] for result in results} == {image["id"] for image in truth["images"]}
    assert {result["category_id"] for result in results} == {4, 9}
    assert metrics == coco_metrics(truth, results)
    for result in results:
        left, top, width, height = result["bbox"]
        assert min(left, top, width, height) >= 0
        assert left + width <= 80.01
        assert top + height <= 60.01


def test_the_batch_size_of_evaluation_changes_nothing(finished):
    one = evaluate(replace(finished, training=replace(finished.training, batch_size=1)))
    all_at_once = evaluate(replace(finished, training=replace(finished.training, batch_size=5)))
    assert len(one.results) == len(all_at_once.results)
    assert one.metrics.AP == pytest.approx(all_at_once.metrics.AP, abs=1e-4)


def test_validation_file_may_lack_classes_of_the_training_file(finished, val_split, tmp_path):
    content = json.loads(val_split.annotations.read_text())
    content["categories"] = [category for category in content["categories"] if category["id"] == 9]
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] == 9]
    (tmp_path / "val.json").write_text(json.dumps(content))
    both = evaluate(finished).metrics.per_class
    only = evaluate(replace(finished, data=replace(finished.data, val_annotations=tmp_path / "val.json"))).metrics
    assert only.per_class == (both[1],)
    assert only.AP == both[1].AP


def test_evaluation_keeps_the_input_size_of_the_checkpoint(finished):
    plain = evaluate(finished)
    other = evaluate(finished.replace(image_size="28x112", resize_mode="letterbox"))
    assert other.results == plain.results


@pytest.mark.parametrize(
    ("trained", "given", "used"), [("bf16", "auto", "bf16"), ("32", "auto", "32"), ("bf16", "32", "32")]
)
def test_an_evaluation_computes_as_the_run_did_unless_told_otherwise(tmp_path, settings, trained, given, used):
    """The evaluation then reproduces the numbers of the run, and reports their precision."""
    fit(settings(tmp_path / "run", epochs=1, precision=trained, logger=[]))
    own = json.loads((tmp_path / "run" / "val_metrics_epoch_1.json").read_text())
    checkpoint = tmp_path / "run" / "dino_detector_final.pth"
    found = evaluate(settings(tmp_path / "again", checkpoint=checkpoint, precision=given))
    assert own["precision"] == trained
    assert found.config.training.precision == used
    results = json.loads((tmp_path / "run" / "val_predictions_epoch_1.json").read_text())
    scores, again = (sorted(result["score"] for result in each) for each in (results, found.results))
    if trained == used == "32":
        assert again == pytest.approx(scores, abs=1e-6)
    elif trained != used:
        assert again != pytest.approx(scores, abs=1e-6)
