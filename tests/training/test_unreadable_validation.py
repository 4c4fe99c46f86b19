"""A validation image that can't be read: an error that names the flag, or left out and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.run_data import read_run_data


def data(folder: Path, broken: int, **settings: object) -> DetectionData:
    """Return the data of an evaluation of three images, some of them broken."""
    images = [{"id": number, "file_name": f"{number}.png", "width": 40, "height": 30} for number in (1, 2, 3)]
    boxes = [{"id": one["id"], "image_id": one["id"], "category_id": 1, "bbox": [1, 1, 9, 9]} for one in images]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "red"}]}
    (folder / "all.json").write_text(json.dumps(content))
    for image in images:
        Image.new("RGB", (40, 30), "grey").save(folder / image["file_name"])
        if image["id"] <= broken:
            (folder / image["file_name"]).write_bytes(b"broken")
    config = Config.from_flat({"data": folder, **settings})
    return DetectionData(config=config, run_data=read_run_data(config, training=False))


def test_an_unreadable_image_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"1\.png: cannot be read.*remove image 1 from .*all\.json, or .*--skip_unreadab"
    ):
        data(tmp_path, 1).check_validation_images()


def test_unreadable_images_are_named_and_left_out_on_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = data(tmp_path, 2, skip_unreadable=True)
    found.check_validation_images()
    assert found.run_data.val.annotations.images.ids.tolist() == [3]
    assert "2 of 3 validation images are left out of the evaluation (--skip_unreadable)" in caplog.text
    assert all(f"{number}.png: cannot be read" in caplog.text for number in (1, 2))


def test_no_readable_image_is_an_error_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no validation image can be read"):
        data(tmp_path, 3, skip_unreadable=True).check_validation_images()
