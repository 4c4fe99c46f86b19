"""Detections and ground truth of a format that names classes without numbering them are joined by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from dino_detector.analysis.runs import read_detections, read_run
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.structures.categories import Categories
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.validate import coco_metrics

VOC = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>"
    "<object><name>red</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>22</xmax><ymax>23</ymax></bndbox></object>"
    "</annotation>"
)
DETECTOR = Categories((1, 2), ("blue", "red"))


def test_a_split_of_voc_that_lacks_a_class_is_joined_by_name(tmp_path: Path) -> None:
    """Alone, the split would number red 1; the detector knows it as 2."""
    folder = tmp_path / "val"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    (folder / "a.xml").write_text(VOC)
    truth = CocoAnnotations.read(folder).numbered_like(DETECTOR)
    results = [{"image_id": 1, "category_id": 2, "bbox": [2, 3, 20, 20], "score": 0.9}]
    files = EvaluationFiles.of(tmp_path, "", images=folder, annotations=folder)
    files.write(coco_metrics(truth.ground_truth, results), results)
    read = read_run(files.metrics, {})
    assert read.annotations.categories == Categories((2,), ("red",))
    detected = read_detections(files.predictions, folder, folder, max_detections=100)
    assert detected.metrics.AP == pytest.approx(1)
    assert json.loads(files.metrics.read_text())["AP"] == pytest.approx(1)
