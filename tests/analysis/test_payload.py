import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detection_cases import IDS, annotations_of, case, case_by_hand, random_case
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dino_detector.analysis.payload import report_payload
from dino_detector.analysis.runs import Run
from dino_detector.errors import InputError
from dino_detector.validate import coco_metrics

BOX = (0, 0, 100, 100)
DETAILS = ("curves", "errors", "confusion", "calibration", "gallery", "scores")


def run_of(built, *, name="run.json", image_ids=None):
    ground_truth, results = built
    annotations = annotations_of(ground_truth)
    metrics = coco_metrics(annotations.ground_truth, results, image_ids=image_ids)
    return Run(Path(name), metrics, results, annotations)


def payload_of(run, *, baseline=None, images_in_gallery=5):
    payload = report_payload(run, baseline, gallery_images=images_in_gallery, data_given=True)
    json.dumps(payload, allow_nan=False)
    return payload


def test_the_class_table_and_curves_equal_pycocotools(capsys):
    ground_truth, results = random_case(0)
    run = run_of((ground_truth, results))
    truth = COCO()
    truth.dataset = annotations_of(ground_truth).ground_truth
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in results]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]

    def number(values):
        return None if values.mean() == -1 else pytest.approx(values.mean(), abs=6e-5)

    payload = payload_of(run)
    assert list(payload["metrics"].values()) == [
        None if value == -1 else pytest.approx(value, abs=6e-5) for value in evaluation.stats
    ]
    for label, row in enumerate(payload["classes"]):
        assert row["id"] == IDS[label]
        assert (row["AP"], row["AP50"], row["AP75"]) == tuple(
            number(precision[thresholds, :, label, 0]) for thresholds in (slice(None), 0, 5)
        )
        assert [row[name] for name in ("APs", "APm", "APl")] == [
            number(precision[:, :, label, area]) for area in (1, 2, 3)
        ]
        assert row["AR100"] == number(recall[:, label, 0])
        curves = payload["curves"]["precision"][label]
        if row["boxes"]:
            np.testing.assert_allclose(curves, precision[:, :, label, 0], atol=6e-5)
        else:
            assert curves is None
    np.testing.assert_allclose(payload["curves"]["mean"], precision[:, :, :4, 0].mean(axis=2), atol=6e-5)
    assert payload["curves"]["ious"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_parts_agree_with_each_other():
    run = run_of(random_case(2))
    payload = payload_of(run)
    assert payload["images"] == 25
    assert payload["detections"] == len(run.results) == sum(payload["scores"]["counts"])
    assert payload["boxes"] == sum(map(sum, payload["confusion"]["counts"][:-1]))
    assert payload["errors"]["AP50"] == pytest.approx(payload["metrics"]["AP50"], abs=1e-3)
    assert payload["confusion"]["threshold"] == payload["gallery"]["threshold"]
    assert len(payload["gallery"]["images"]) == 5
    assert [row["key"] for row in payload["errors"]["types"]] == [
        "classification",
        "localisation",
        "both",
        "duplicate",
        "background",
        "missed",
    ]


def test_metrics_alone_show_what_they_have():
    run = run_of(random_case(0))
    for lacking in (run._replace(results=None), run._replace(annotations=None)):
        payload = payload_of(lacking)
        assert {payload[name] for name in DETAILS} == {None}
        assert payload["metrics"]["AP"] == pytest.approx(run.metrics.AP, abs=6e-5)
        assert payload["classes"][0]["AP50"] == pytest.approx(run.metrics.per_class[0].AP50, abs=6e-5)
        assert payload["classes"][0]["F1"] is None


@pytest.mark.parametrize(
    "built",
    [
        case([(1, "cat", BOX)], []),
        case([], [(1, "cat", BOX, 0.5)]),
        case([], []),
        case([(1, "cat", BOX)], [(1, "cat", BOX, 1.0)], categories=("cat",)),
        case([(1, "cat", BOX, "crowd")], [(1, "cat", (0, 0, 9, 9), 0.5)]),
        case([(1, "cat", BOX)], [(1, "cat", (5, 5, 0, 0), 0.5), (1, "dog", BOX, 0.5), (1, "cat", BOX, 0.5)]),
    ],
    ids=["no detections", "no truth", "nothing", "one class", "only a crowd", "no area, equal scores"],
)
def test_edges_are_strict_json(built):
    run = run_of(built)
    payload = payload_of(run, baseline=run._replace(source=Path("other.json")))
    assert {name for name in DETAILS if payload[name] is None} == (set() if payload["boxes"] else {"curves"})
    assert payload["comparison"]["flipped"]["total_gained"] == 0


def test_a_part_of_the_annotated_images_is_found_by_its_detections():
    ground_truth, results = random_case(0)
    kept = sorted({row["image_id"] for row in results})[:10]
    rows = [row for row in results if row["image_id"] in kept]
    payload = payload_of(run_of((ground_truth, rows), image_ids=kept))
    assert payload["images"] == 10
    assert payload["boxes"] == sum(row["boxes"] for row in payload["classes"])
    assert payload["boxes"] == sum(map(sum, payload["confusion"]["counts"][:-1]))


def test_other_annotations_and_detections_are_refused():
    run = run_of(case_by_hand())
    two = annotations_of(case([], [], images=(1, 2))[0])
    three = annotations_of(case([], [], images=(7, 8, 9))[0])
    halved = [{**row, "score": 1 - row["score"]} for row in run.results]
    for wrong, words in (
        (run._replace(annotations=three), "no image 1"),
        (run._replace(annotations=two, metrics=coco_metrics(two.ground_truth, [])), "8 detections"),
        (run._replace(results=halved), "AP of"),
        (run._replace(metrics=replace(run.metrics, per_class=run.metrics.per_class[:1])), "2 classes"),
        (run._replace(annotations=two, results=run.results[:0]), "2 images"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            payload_of(wrong)
        assert "\n" not in str(caught.value)
        assert "give" in str(caught.value)


def test_a_comparison_has_changes_interval_and_flipped_images():
    ground_truth, results = random_case(0)
    run, before = run_of((ground_truth, results)), run_of((ground_truth, results[::2]), name="before.json")
    comparison = payload_of(run, baseline=before)["comparison"]
    assert (comparison["title"], comparison["baseline_title"]) == ("run.json", "before.json")
    row = comparison["classes"][0]
    assert row["change"] == pytest.approx(row["AP"] - row["baseline"])
    assert comparison["classes"][-1]["change"] is None, "class 91 has no ground truth"
    change = comparison["metrics"]["AP"]["value"] - comparison["metrics"]["AP"]["baseline"]
    assert comparison["bootstrap"]["difference"] == pytest.approx(change, abs=1e-4)
    assert comparison["bootstrap"]["resamples"] == 1000
    flipped = comparison["flipped"]
    assert (len(flipped["gained"]), len(flipped["lost"])) == (flipped["total_gained"], flipped["total_lost"])


def test_a_baseline_of_metrics_alone_is_compared_by_numbers():
    run = run_of(random_case(0))
    comparison = payload_of(run, baseline=run._replace(results=None, source=Path("before.json")))["comparison"]
    assert (comparison["bootstrap"], comparison["flipped"]) == (None, None)
    assert {row["change"] for row in comparison["classes"]} == {0, None}


def test_at_most_fifty_flipped_images_are_listed():
    images = range(1, 61)
    truths = [(number, "cat", BOX) for number in images]
    right = run_of(case(truths, [(number, "cat", BOX, 0.9) for number in images], images=images))
    nothing = run_of(case(truths, [], images=images), name="before.json")
    flipped = payload_of(right, baseline=nothing)["comparison"]["flipped"]
    assert (len(flipped["gained"]), flipped["total_gained"]) == (50, 60)
    assert flipped["gained"][0] == {"id": 1, "file_name": "1.jpg", "baseline_mistakes": 1, "mistakes": 0}


def test_runs_on_different_data_are_not_compared():
    run = run_of(case([(1, "cat", BOX)], [(1, "cat", BOX, 0.9)]))
    moved = run_of(case([(1, "cat", (0, 0, 90, 90))], [(1, "cat", BOX, 0.9)]), name="moved.json")
    more = run_of(case([(1, "cat", BOX)], [(1, "cat", BOX, 0.9)], images=(1, 2)), name="more.json")
    with pytest.raises(InputError, match=r"moved\.json.*boxes"):
        payload_of(run, baseline=moved)
    with pytest.raises(InputError, match=r"more\.json.*different images"):
        payload_of(run, baseline=more)
