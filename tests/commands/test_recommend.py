"""The command recommend: the file that it writes, the files that it leaves alone, and a training with its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_cache import fill_hub_cache, serve_hub_cache
from PIL import Image

from dino_detector import cli


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a data set ``my data`` of six images, which are 80 x 60 pixels and have one box each."""
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "my data" / "train"
    images.mkdir(parents=True)
    for number in range(6):
        picture = Image.new("RGB", (80, 60))
        picture.paste((40 * number, 200, 60), (10, 10, 50, 50))
        picture.save(images / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 80, "height": 60} for number in range(6)],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
            for number in range(6)
        ],
        "categories": [{"id": 1, "name": "square"}],
    }
    (images / "_annotations.coco.json").write_text(json.dumps(content))
    return tmp_path


def test_the_file_trains(
    folder: Path, write_dinov2: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base models are tiny models of random weights under the names of the hub."""
    names = ["facebook/dinov2-small", "facebook/dinov2-base"]
    fill_hub_cache(folder / "hub", names, write_dinov2)
    serve_hub_cache(folder / "hub", monkeypatch)
    assert cli.main(["recommend", "my data", "--output", "to train/my config.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "6 training images with 6 boxes of 1 class" in printed
    assert "dino-detector train --config 'to train/my config.yaml'" in printed
    words = ["train", "my data", "--config", "to train/my config.yaml", "--epochs", "1", "--device", "cpu"]
    assert cli.main(words) == 0
    assert (folder / "outputs" / "dino_detector_final.pth").is_file()


def test_a_file_of_the_user_stays_and_a_changed_file_of_ours_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "config.yaml"
    file.write_text("epochs: 5\n")
    assert cli.main(["recommend", "my data", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("error: config.yaml: is no file of an earlier recommend")
    assert file.read_text() == "epochs: 5\n"

    file.unlink()
    assert cli.main(["recommend", "my data", "--device", "cpu"]) == 0
    ours = file.read_text()
    assert cli.main(["recommend", "my data", "--device", "cpu"]) == 0
    assert not list(folder.glob("earlier_*"))
    file.write_text(ours + "seed: 7\n")
    assert cli.main(["recommend", "my data", "--device", "cpu"]) == 0
    (kept,) = folder.glob("earlier_*/config.yaml")
    assert kept.read_text() == ours + "seed: 7\n"
    assert file.read_text() == ours

    file.write_bytes(ours.encode() + b"# gr\xfcn\n")  # Latin-1
    assert cli.main(["recommend", "my data", "--device", "cpu"]) == 0
    assert file.read_text() == ours
    assert any(path.read_bytes().endswith(b"# gr\xfcn\n") for path in folder.glob("earlier_*/config.yaml"))


def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["nowhere"], "nowhere: no such folder or annotation file"),
        (["my data", "--output", "my data"], "my data: is a folder"),
        (["my data", "--device", "warp"], "device 'warp' is not auto"),
    ):
        assert cli.main(["recommend", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {message}")
        assert error.count("\n") == 1
    assert not (folder / "config.yaml").exists()
