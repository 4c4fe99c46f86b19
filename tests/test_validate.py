import contextlib
import copy
import io
import json
import logging
import random

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dino_detector.analysis.tables import metrics_table
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections, coco_results
from dino_detector.structures.evaluation_files import write_results
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.validate import coco_metrics

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def pycocotools_numbers(ground_truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    classes = [(float(precision[:, :, k].mean()), float(precision[0, :, k].mean())) for k in range(precision.shape[2])]
    return [float(number) for number in evaluation.stats], classes


def random_case(seed, *, sides=(4, 250), category_ids=(0, 2, 3, 90), tied_scores=False):
    """Return images with crowds, empty images, and detections near and far from the truth; one image has 180."""
    chance = random.Random(seed)

    def box():
        # sides on a logarithmic scale, so small, medium and large boxes are about as frequent
        width, height = (np.exp(chance.uniform(np.log(sides[0]), np.log(sides[1]))) for _ in range(2))
        return [chance.uniform(0, 600), chance.uniform(0, 400), float(width), float(height)]

    images = [{"id": image_id, "width": 640, "height": 480} for image_id in chance.sample(range(1000), 25)]
    categories = [{"id": category_id, "name": f"class {category_id}"} for category_id in category_ids]
    annotations, results = [], []
    for position, image in enumerate(images):
        for _ in range(0 if position % 6 == 0 else chance.randint(1, 12)):
            bbox = box()
            area = bbox[2] * bbox[3] * chance.uniform(0.5, 1)
            annotation = {"id": len(annotations) + 1, "image_id": image["id"], "bbox": bbox, "area": area}
            crowd = int(chance.random() < 0.15)
            annotations.append({**annotation, "category_id": chance.choice(category_ids[:-1]), "iscrowd": crowd})
        own = [annotation for annotation in annotations if annotation["image_id"] == image["id"]]
        for number in range(180 if position == 1 else chance.randint(0, 20)):
            if own and number % 3:
                near = chance.choice(own)
                bbox = [max(0.1, value + chance.gauss(0, 0.06 * near["bbox"][2])) for value in near["bbox"]]
                category_id = near["category_id"]
            else:
                bbox, category_id = box(), chance.choice(category_ids)
            score = chance.choice((0.2, 0.5, 0.8)) if tied_scores else chance.random()
            results.append({"image_id": image["id"], "category_id": category_id, "bbox": bbox, "score": score})
    return {"images": images, "annotations": annotations, "categories": categories}, results


def one_box(*extra_images, bbox=(10.0, 20.0, 50.0, 40.0)):
    images = [{"id": image_id} for image_id in (1, *extra_images)]
    annotation = {"id": 1, "image_id": 1, "category_id": 7, "bbox": list(bbox), "area": bbox[2] * bbox[3], "iscrowd": 0}
    return {"images": images, "annotations": [annotation], "categories": [{"id": 7, "name": "owl"}]}


def result(image_id=1, *, bbox=(10.0, 20.0, 50.0, 40.0), score=0.5, category_id=7):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score}


@pytest.mark.parametrize("tied_scores", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_numbers_equal_pycocotools(seed, tied_scores):
    ground_truth, results = random_case(seed, tied_scores=tied_scores)
    expected, expected_classes = pycocotools_numbers(ground_truth, results)
    assert all(0 < number < 1 for number in expected), "the case must exercise every number"
    metrics = coco_metrics(ground_truth, results)
    assert [getattr(metrics, name) for name in TWELVE] == pytest.approx(expected, abs=1e-12)
    classes = [(row.AP, row.AP50) for row in metrics.per_class]
    np.testing.assert_allclose(classes, expected_classes, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("sides", "absent"), [((4, 30), ("APm", "APl")), ((100, 200), ("APs", "APm"))])
def test_areas_without_ground_truth_equal_pycocotools(sides, absent):
    ground_truth, results = random_case(11, sides=sides)
    for annotation in ground_truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    expected, _ = pycocotools_numbers(ground_truth, results)
    metrics = coco_metrics(ground_truth, results)
    assert [getattr(metrics, name) for name in TWELVE] == pytest.approx(expected, abs=1e-12)
    assert [getattr(metrics, name) for name in absent] == [-1, -1]


def test_a_subset_of_images_equals_a_data_set_of_these_images_alone():
    ground_truth, results = random_case(5)
    kept = {image["id"] for image in ground_truth["images"][::2]}
    smaller = {
        "images": [image for image in ground_truth["images"] if image["id"] in kept],
        "annotations": [annotation for annotation in ground_truth["annotations"] if annotation["image_id"] in kept],
        "categories": ground_truth["categories"],
    }
    expected, _ = pycocotools_numbers(smaller, [entry for entry in results if entry["image_id"] in kept])
    metrics = coco_metrics(ground_truth, results, image_ids=kept)
    assert [getattr(metrics, name) for name in TWELVE] == pytest.approx(expected, abs=1e-12)
    assert metrics.num_images == len(kept)
    assert metrics.num_detections == sum(entry["image_id"] in kept for entry in results)
    assert sum(row.boxes for row in metrics.per_class) == sum(
        not annotation["iscrowd"] for annotation in smaller["annotations"]
    )


def test_rounded_result_boxes_leave_the_metrics_as_they_are():
    ground_truth, results = random_case(3)
    categories = Categories(ids=(0, 2, 3, 90), names=("a", "b", "c", "d"))
    exact, rounded = [], []
    for image in ground_truth["images"]:
        own = [entry for entry in results if entry["image_id"] == image["id"]]
        own = sorted(own, key=lambda entry: -entry["score"])[:100]
        exact += own
        boxes = torch.tensor([entry["bbox"] for entry in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.tensor([entry["score"] for entry in own], dtype=torch.float64)
        labels = torch.tensor([categories.label(entry["category_id"]) for entry in own], dtype=torch.int64)
        rounded += coco_results(image["id"], ImageDetections(boxes, scores, labels), categories)
    expected, _ = pycocotools_numbers(ground_truth, exact)
    metrics = coco_metrics(ground_truth, rounded)
    assert [getattr(metrics, name) for name in TWELVE] == pytest.approx(expected, abs=1e-3)


def test_no_results_score_zero():
    metrics = coco_metrics(one_box(), [])
    assert (metrics.AP, metrics.AP50, metrics.APm, metrics.AR100) == (0, 0, 0, 0)
    assert (metrics.APs, metrics.APl) == (-1, -1)
    assert (metrics.num_images, metrics.num_detections) == (1, 0)
    assert metrics.per_class[0].AP == 0


def test_no_ground_truth_gives_minus_one():
    metrics = coco_metrics({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 7, "name": "owl"}]}, [])
    assert {getattr(metrics, name) for name in TWELVE} == {-1}
    assert (metrics.per_class[0].AP, metrics.per_class[0].boxes) == (-1, 0)


def test_detections_in_an_image_without_annotations_lower_the_score():
    hit, false_alarm = result(1, score=0.5), result(2, score=0.9)
    assert coco_metrics(one_box(2), [hit]).AP == pytest.approx(1)
    # The false alarm ranks first, so precision is 1/2 at every recall.
    assert coco_metrics(one_box(2), [hit, false_alarm]).AP == pytest.approx(0.5)
    assert coco_metrics(one_box(2), [hit, false_alarm], image_ids=[1]).AP == pytest.approx(1)


def test_average_precision_worked_by_hand():
    # IoU 0.64 with the only box: right at three of ten thresholds: 0.50, 0.55 and 0.60.
    metrics = coco_metrics(one_box(bbox=(0, 0, 100, 100)), [result(bbox=(0, 0, 100, 64))])
    assert metrics.AP == pytest.approx(0.3)
    assert (metrics.AP50, metrics.AP75) == (pytest.approx(1), 0)
    assert metrics.AR1 == pytest.approx(0.3)


def test_a_detection_inside_a_crowd_is_neither_right_nor_wrong():
    ground_truth = one_box()
    crowd = {"id": 2, "image_id": 1, "category_id": 7, "bbox": [200, 200, 300, 200], "area": 60000, "iscrowd": 1}
    ground_truth["annotations"].append(crowd)
    results = [result(score=0.5), result(bbox=(250, 250, 40, 40), score=0.9)]
    metrics = coco_metrics(ground_truth, results)
    assert metrics.AP == pytest.approx(1)
    assert metrics.per_class[0].boxes == 1


def test_annotations_count_whatever_their_ids():
    # COCO's tools lose the match of annotation 0, and of annotations that share an id they keep only one.
    ground_truth = one_box(2)
    ground_truth["annotations"].append({**ground_truth["annotations"][0], "image_id": 2})
    for annotation in ground_truth["annotations"]:
        annotation["id"] = 0
    metrics = coco_metrics(ground_truth, [result(1), result(2)])
    assert metrics.AP == pytest.approx(1)
    assert metrics.per_class[0].boxes == 2


def test_annotations_without_area_use_the_area_of_their_box():
    ground_truth = one_box()  # 50 x 40 pixels: medium
    del ground_truth["annotations"][0]["area"]
    metrics = coco_metrics(ground_truth, [result()])
    assert (metrics.APs, metrics.APm, metrics.APl) == (-1, pytest.approx(1), -1)


def test_classes_keep_their_ids_and_names():
    ground_truth, results = random_case(2, category_ids=(0, 2, 3, 90))
    ground_truth["categories"].reverse()
    rows = coco_metrics(ground_truth, results).per_class
    assert [(row.category_id, row.name) for row in rows] == [
        (0, "class 0"),
        (2, "class 2"),
        (3, "class 3"),
        (90, "class 90"),
    ]
    for row in rows:
        own = [entry for entry in ground_truth["annotations"] if entry["category_id"] == row.category_id]
        assert row.boxes == sum(not entry["iscrowd"] for entry in own)
    assert rows[3].AP == -1, "category 90 has no ground truth"


def test_ground_truth_and_results_stay_as_they_were():
    ground_truth, results = random_case(4)
    before = copy.deepcopy((ground_truth, results))
    coco_metrics(ground_truth, results)
    coco_metrics(ground_truth, results, image_ids=[ground_truth["images"][0]["id"]])
    assert (ground_truth, results) == before


def test_the_order_of_images_does_not_matter():
    ground_truth, results = random_case(6, tied_scores=True)
    turned = sorted(results, key=lambda entry: -entry["image_id"])
    assert turned != results
    assert coco_metrics(ground_truth, turned) == coco_metrics(ground_truth, results)


def test_evaluation_is_silent(capfd, caplog):
    with caplog.at_level(logging.INFO):
        coco_metrics(one_box(), [result()])
    captured = capfd.readouterr()
    assert (captured.out, captured.err, caplog.text) == ("", "", "")


@pytest.mark.parametrize(
    ("results", "image_ids", "words"),
    [
        ([result(5)], None, "image 5"),
        ([result(category_id=3)], None, "category 3"),
        ([], [1, 8], "image 8"),
        ([], [], "no images"),
    ],
)
def test_unknown_images_and_categories_are_refused(results, image_ids, words):
    with pytest.raises(InputError, match=words) as caught:
        coco_metrics(one_box(), results, image_ids=image_ids)
    assert "\n" not in str(caught.value)


def test_results_have_the_category_ids_of_the_data_set():
    detections = ImageDetections(
        boxes_xyxy=torch.tensor([[10.0, 20.0, 110.0, 70.0], [0.5, 0.25, 4.0, 8.0], [1.0, 2.0, 3.0, 4.1234567]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        labels=torch.tensor([2, 0, 1]),
    )
    results = coco_results(42, detections, Categories(ids=(0, 4, 90), names=("a", "b", "c")))
    assert results == [
        {"image_id": 42, "category_id": 90, "bbox": [10.0, 20.0, 100.0, 50.0], "score": 0.75},
        {"image_id": 42, "category_id": 0, "bbox": [0.5, 0.25, 3.5, 7.75], "score": 0.5},
        {"image_id": 42, "category_id": 4, "bbox": [1.0, 2.0, 2.0, 2.123], "score": 0.25},
    ]
    plain = {type(number) for entry in results for number in (entry["score"], entry["category_id"], *entry["bbox"])}
    assert plain == {int, float}


def test_results_hold_every_detection():
    detections = ImageDetections(torch.rand(130, 4), torch.linspace(1, 0, 130), torch.zeros(130, dtype=torch.int64))
    results = coco_results(1, detections, Categories(ids=(7,), names=("owl",)))
    assert [entry["score"] for entry in results] == detections.scores.tolist()


def test_an_image_with_nothing_found_has_no_results():
    nothing = ImageDetections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))
    assert coco_results(1, nothing, Categories(ids=(7,), names=("owl",))) == []


def test_result_files_do_not_depend_on_the_order_of_images(tmp_path):
    first, second, third = result(2, score=0.5), result(2, score=0.5, bbox=(1, 1, 2, 2)), result(1, score=0.1)
    write_results(tmp_path / "a.json", [first, second, third])
    write_results(tmp_path / "b.json", [third, first, second])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == [third, first, second]


def test_a_result_file_may_be_empty(tmp_path):
    write_results(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_metrics_files_hold_every_number_and_the_extras(tmp_path):
    metrics = coco_metrics(one_box(bbox=(0, 0, 100, 100)), [result(bbox=(0, 0, 100, 64))])
    metrics.write(tmp_path / "new" / "val_metrics_epoch_3.json", epoch=3, seconds=1.5)
    written = json.loads((tmp_path / "new" / "val_metrics_epoch_3.json").read_text())
    assert {*TWELVE, "per_class", "num_images", "num_detections", "max_detections", "epoch", "seconds"} == set(written)
    assert (written["epoch"], written["seconds"], written["num_images"], written["APs"]) == (3, 1.5, 1, -1)
    assert written["AP"] == pytest.approx(0.3)
    [row] = written["per_class"]
    assert row == {"category_id": 7, "name": "owl", "AP": pytest.approx(0.3), "AP50": pytest.approx(1), "boxes": 1}


def crowd_of(count, classes=1):
    """Return ``count`` small boxes of each class in one image, and perfect detections of these boxes."""
    boxes = [(10.0 * (index % 40), 10.0 * (index // 40), 8.0, 8.0) for index in range(count)]
    annotations = [
        {"id": 0, "image_id": 1, "category_id": label, "bbox": list(bbox), "area": 64.0, "iscrowd": 0}
        for label in range(1, classes + 1)
        for bbox in boxes
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": label, "name": f"class {label}"} for label in range(1, classes + 1)]
    results = [
        {"image_id": 1, "category_id": annotation["category_id"], "bbox": annotation["bbox"], "score": 0.9}
        for annotation in annotations
    ]
    return {"images": [{"id": 1}], "annotations": annotations, "categories": categories}, results


def test_max_detections_raises_the_number_that_counts(tmp_path):
    """With the limit of 100, the first 100 of 250 perfect detections reach 41 of the 101 recall levels."""
    metrics = coco_metrics(*crowd_of(250))
    assert metrics.AP == pytest.approx(41 / 101)
    assert list(metrics.numbers)[6:9] == ["AR1", "AR10", "AR100"]
    assert metrics.numbers["AR100"] == pytest.approx(0.4)
    more = coco_metrics(*crowd_of(250), max_detections=300)
    assert (more.AP, more.APs) == (1, 1)
    assert list(more.numbers)[6:9] == ["AR1", "AR10", "AR300"]
    assert more.numbers["AR300"] == 1
    assert more.per_class[0].AP == 1
    more.write(tmp_path / "metrics.json")
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["AR300"] == 1
    assert "AR100" not in written
    assert CocoMetrics.read(tmp_path / "metrics.json") == more
    assert "AR300" in metrics_table(more)
    assert "up to 300 of an image and class count, and not COCO's 100" in metrics_table(more)


def test_numbers_with_more_detections_equal_pycocotools():
    """Average the tables of pycocotools, because its summary has AP only for 100 detections."""
    ground_truth, results = crowd_of(250, classes=2)
    chance = random.Random(0)
    for entry in results:
        entry["score"] = chance.random()
        entry["bbox"] = [entry["bbox"][0] + chance.uniform(0, 3), *entry["bbox"][1:]]
    metrics = coco_metrics(ground_truth, results, max_detections=200)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.params.maxDets = [1, 10, 200]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = (evaluation.eval[name] for name in ("precision", "recall"))
    assert metrics.AP == pytest.approx(precision[..., 0, -1].mean())
    assert metrics.APs == pytest.approx(precision[..., 1, -1].mean())
    assert metrics.AP50 == pytest.approx(precision[0, ..., 0, -1].mean())
    assert metrics.numbers["AR200"] == pytest.approx(recall[..., 0, -1].mean())
    assert 0.1 < metrics.AP < 0.9


def test_more_objects_than_max_detections_are_reported(tmp_path, caplog):
    ground_truth, _ = crowd_of(120, classes=2)
    ground_truth["images"] = [{"id": 1, "file_name": "1.png", "width": 640, "height": 480}]
    (tmp_path / "val.json").write_text(json.dumps(ground_truth))
    annotations = CocoAnnotations.read(tmp_path / "val.json")
    annotations.warn_of_limit(120)
    assert not caplog.messages, "the limit is one of each class"
    annotations.warn_of_limit(100)
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/val.json: 1 of 1 images")
    assert "--max_detections 120" in message
    assert "--num_queries" not in message
    caplog.clear()
    annotations.warn_of_limit(100, found=110)
    annotations.warn_of_limit(120, found=110)
    crowded, without_effect = caplog.messages
    assert "--max_detections 120" in crowded
    assert "--num_queries 120" in crowded
    assert "--max_detections 120 has the effect of 110" in without_effect
    assert "--num_queries 120" in without_effect


def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_results(path, [result(score=0.5)])
    before = path.read_bytes()
    seen = []

    def power_cut(beside, target):
        seen.append((json.loads(beside.read_text()), target.read_bytes()))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", power_cut)
        with pytest.raises(KeyboardInterrupt):
            write_results(path, [result(score=0.9)])
    # All of the new text lies beside the file before the file changes.
    assert seen == [([result(score=0.9)], before)]
    assert path.read_bytes() == before
    write_results(path, [result(score=0.9)])
    assert json.loads(path.read_text()) == [result(score=0.9)]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_box_of_a_class_that_is_not_listed_is_refused():
    truth = {
        "images": [{"id": 1, "height": 10, "width": 10}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a"}],
    }
    with pytest.raises(InputError, match="an annotation of image 1 has category 9, which is not in the annotations'"):
        coco_metrics(truth, [])
