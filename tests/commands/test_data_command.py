"""The command ``data``: exit codes, and outputs that it does not replace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from dino_detector.commands.data import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two splits in COCO's layout, with one box in each image."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (40, 30), "grey").save(tmp_path / split / f"{split}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{split}.png", "width": 40, "height": 30}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20]}],
            "categories": [{"id": 1, "name": "red"}],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    return tmp_path


def test_data_that_can_be_trained_on_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--skip_images"]) == 0
    assert capsys.readouterr().err == ""


def test_a_split_that_cannot_be_read_is_named_beside_the_others_and_ends_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "val.json").write_text('{"images": [')
    assert main([str(folder), "--skip_images"]) == 2
    printed = capsys.readouterr()
    assert f"val    {folder}/val.json, not readable" in printed.out
    assert f"error: {folder}: can't read the annotations of val: {folder}/val.json: not JSON" in printed.err


def test_a_mistake_that_stops_training_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((folder / "val.json").read_text())
    content["annotations"][0]["image_id"] = 7
    (folder / "val.json").write_text(json.dumps(content))
    assert main([str(folder), "--skip_images"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "training does not start before these are corrected: annotations of an image that is not in" in line


def test_a_file_of_the_user_is_no_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "data.yaml"
    file.write_text("train: train\nnames: [red]\n")
    assert main([str(folder / "train.json"), "--skip_images", "--output", str(file)]) == 2
    assert "data.yaml: is no list of findings and would be replaced" in capsys.readouterr().err
    assert file.read_text() == "train: train\nnames: [red]\n"
