import subprocess
import sys

import numpy as np
import torch

from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections, supervision_detections

CATEGORIES = Categories(ids=(0, 4, 90), names=("cat", "käfer", "owl"))


def test_supervision_gets_category_ids_and_names():
    detections = ImageDetections(
        boxes_xyxy=torch.tensor([[10.0, 20.0, 110.0, 70.0], [0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 2.0, 2.0]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        labels=torch.tensor([2, 0, 1]),
    ).to_supervision(CATEGORIES)
    np.testing.assert_array_equal(detections.xyxy, [[10, 20, 110, 70], [0, 0, 5, 5], [1, 1, 2, 2]])
    assert detections.confidence.tolist() == [0.75, 0.5, 0.25]
    assert detections.class_id.tolist() == [90, 0, 4]
    assert detections["class_name"].tolist() == ["owl", "cat", "käfer"]


def test_an_image_with_nothing_found_is_an_empty_result():
    nothing = ImageDetections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))
    detections = nothing.to_supervision(CATEGORIES)
    assert len(detections) == 0
    assert detections.xyxy.shape == (0, 4)
    assert detections["class_name"].shape == (0,)
    assert detections.confidence.shape == detections.class_id.shape == (0,)
    assert len(detections[detections.confidence > 0.5]) == 0


def test_half_precision_scores_are_accepted():
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]], dtype=torch.bfloat16)
    detections = ImageDetections(boxes, torch.tensor([0.5], dtype=torch.bfloat16), torch.tensor([1]))
    assert detections.to_supervision(CATEGORIES).confidence.tolist() == [0.5]


def test_ground_truth_has_no_confidence():
    truth = supervision_detections(torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([2]), CATEGORIES)
    assert truth.confidence is None
    assert truth.class_id.tolist() == [90]


def test_the_best_are_the_first_of_all_or_of_each_class():
    detections = ImageDetections(
        boxes_xyxy=torch.arange(28.0).view(7, 4),
        scores=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
        labels=torch.tensor([2, 0, 2, 2, 0, 2, 1]),
    )
    for count, kept in ((3, [0, 1, 2]), (9, [0, 1, 2, 3, 4, 5, 6]), (0, [])):
        assert_rows(detections.best(count), detections, kept)
    for count, kept in ((1, [0, 1, 6]), (2, [0, 1, 2, 4, 6]), (3, [0, 1, 2, 3, 4, 6]), (9, [0, 1, 2, 3, 4, 5, 6])):
        assert_rows(detections.best_of_each_class(count), detections, kept)


def test_the_best_of_nothing_is_nothing():
    nothing = ImageDetections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))
    for best in (nothing.best(100), nothing.best_of_each_class(100)):
        assert [column.shape for column in best] == [(0, 4), (0,), (0,)]


def assert_rows(found: ImageDetections, of: ImageDetections, rows: list[int]) -> None:
    for column, whole in zip(found, of, strict=True):
        assert torch.equal(column, whole[rows])


def test_metrics_and_detections_load_no_drawing_library():
    heavy = ["supervision", "matplotlib", "hotcoco", "cv2"]
    code = (
        "import sys, dino_detector.validate, dino_detector.structures.detections, dino_detector.analysis.tables as t\n"
    )
    code += f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
