"""Conversion of BCCD from Pascal VOC to COCO format."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.accuracy.bccd import convert
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError

VOC = """<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = """<object><name>{label}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
</bndbox></object>"""


def test_each_split_has_its_images_and_their_boxes(tmp_path: Path) -> None:
    root = tmp_path / "BCCD_Dataset" / "BCCD"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    split_of = {"cell_1": "train", "cell_2": "val", "cell_3": "train", "cell_4": "test"}
    for number, name in enumerate(split_of):
        Image.new("RGB", (64, 48), (number * 40, 0, 0)).save(root / "JPEGImages" / f"{name}.jpg")
        objects = [OBJECT.format(5, 9, 21 + number, 30, label="RBC"), OBJECT.format(1, 1, 11, 11, label="WBC")]
        (root / "Annotations" / f"{name}.xml").write_text(VOC.format(name=name, objects="".join(objects)))
    for split in ("train", "val", "test"):
        names = [name for name, of in split_of.items() if of == split]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")

    assert convert(tmp_path / "BCCD_Dataset", tmp_path / "bccd") == {"train": 2, "val": 1, "test": 1}
    annotations = CocoAnnotations.read(tmp_path / "bccd" / "annotations" / "instances_train.json")
    assert [record.file_name for record in annotations.images] == ["cell_1.jpg", "cell_3.jpg"]
    assert all((tmp_path / "bccd" / "train" / record.file_name).is_file() for record in annotations.images)
    names = dict(zip(annotations.categories.ids, annotations.categories.names, strict=True))
    second = annotations.ground_truth["annotations"][2:]
    boxes = {names[entry["category_id"]]: entry["bbox"] for entry in second}
    assert boxes == {"RBC": [4, 8, 19, 22], "WBC": [0, 0, 11, 11]}  # VOC counts pixels from 1 and includes the last one


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"JPEGImages: no such folder; give a clone of"):
        convert(tmp_path, tmp_path / "bccd")
