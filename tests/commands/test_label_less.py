"""The commands suggest, doubts and label, with an untrained detector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import supervision
from PIL import Image

from dino_detector import cli


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, save_detector: Callable[..., Path]) -> Path:
    """Return the file of an untrained detector of two categories with the ids 3 and 9."""
    path = tmp_path_factory.mktemp("checkpoint") / "detector.pth"
    return save_detector(path, ("cell", "plate"), num_queries=60, two_stage=False)


def save_noise(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        save_noise(folder / f"{number}.png", number)
    (folder / "copy_of_0.png").write_bytes((folder / "0.png").read_bytes())
    return folder


def run(*argv: str | Path) -> int:
    return cli.main([*map(str, argv), "--device", "cpu"])


def test_suggest_lists_pictures_of_which_no_two_are_copies(pictures: Path, checkpoint: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run("suggest", pictures, "--checkpoint", checkpoint, "--count", "7", "--output_dir", out) == 0
    listed = (out / "suggested.txt").read_text().splitlines()
    assert len(set(listed)) == len(listed) == 6
    assert all(Path(name).is_file() for name in listed)
    page = (out / "suggestions.html").read_text()
    assert page.count("<li ") == 6
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_suggest_leaves_out_pictures_with_labels_and_their_copies(pictures: Path, checkpoint: Path, tmp_path: Path):
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cell"}, {"id": 9, "name": "plate"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(pictures)
    out = tmp_path / "out"
    argv = ["--count", "7", "--labelled", tmp_path / "labels.json", "--output_dir", out]
    assert run("suggest", pictures, "--checkpoint", checkpoint, *argv) == 0
    names = {Path(line).name for line in (out / "suggested.txt").read_text().splitlines()}
    assert names == {f"{number}.png" for number in range(1, 6)}


def test_label_writes_boxes_that_another_library_reads(pictures: Path, checkpoint: Path, tmp_path: Path):
    out = tmp_path / "out"
    argv = ["--to", "coco", "--threshold", "0", "--output_dir", out]
    assert run("label", pictures, "--checkpoint", checkpoint, *argv) == 0
    read = supervision.DetectionDataset.from_coco(str(out), str(out / "_annotations.coco.json"))
    assert read.classes == ["cell", "plate"]
    assert len(read) == 7
    assert sum(len(one) for _, _, one in read) > 0
    assert len(list(pictures.iterdir())) == 7


def test_label_studio_gets_predictions_with_scores_in_per_cent_of_the_picture(
    pictures: Path, checkpoint: Path, tmp_path: Path
):
    out = tmp_path / "out"
    argv = ["--to", "label-studio", "--threshold", "0", "--output_dir", out]
    assert run("label", pictures, "--checkpoint", checkpoint, *argv) == 0
    tasks = json.loads((out / "tasks.json").read_text())
    assert len(tasks) == 7
    for task in tasks:
        address = unquote(task["data"]["image"]).removeprefix("/data/local-files/?d=")
        assert (out / address).is_file()
        (prediction,) = task["predictions"]
        for region in prediction["result"]:
            place = region["value"]
            assert 0 <= region["score"] <= 1
            assert (region["original_width"], region["original_height"]) == (64, 48)
            assert place["x"] + place["width"] <= 100.01
            assert place["rectanglelabels"][0] in ("cell", "plate")
    assert "<RectangleLabels" in (out / "labelling_interface.xml").read_text()


@pytest.mark.parametrize("tool", ["yolo", "voc", "labelme", "cvat"])
def test_label_leaves_out_pictures_with_labels(pictures: Path, checkpoint: Path, tmp_path: Path, tool: str):
    (pictures / "notes.txt").write_text("3 objects")
    content = {
        "images": [{"id": n + 1, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(6)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cell"}, {"id": 9, "name": "plate"}],
    }
    (pictures / "labels.json").write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in pictures.iterdir()}
    out = tmp_path / "out"
    argv = ["--to", tool, "--threshold", "0", "--output_dir", out]
    assert run("label", pictures, "--checkpoint", checkpoint, *argv) == 0
    names = {path.name for path in out.rglob("*.png")}
    assert names == {"1.png", "2.png", "3.png", "4.png", "5.png", "copy_of_0.png"}
    assert {path: path.read_bytes() for path in pictures.iterdir()} == before


def test_without_a_validation_label_says_that_the_threshold_is_one_half(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("label", pictures, "--checkpoint", checkpoint, "--to", "coco", "--output_dir", tmp_path / "out") == 0
    assert "Thresholds: cell 0.5, plate 0.5 (no validation was found beside the checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["suggest", "doubts", "label"])
def test_a_missing_checkpoint_is_one_line(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    extra = ["--to", "coco"] if name == "label" else []
    argv = [pictures, "--checkpoint", tmp_path / "none.pth", *extra, "--output_dir", tmp_path / "out"]
    assert run(name, *argv) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path / 'none.pth'}: no such checkpoint; check its path"
    ]
    assert not (tmp_path / "out").exists()


def test_doubts_judges_each_label_by_the_detector_of_another_fold_and_changes_no_file(
    pictures: Path, checkpoint: Path, tmp_path: Path
):
    (pictures / "copy_of_0.png").unlink()
    box = {"category_id": 3, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    content = {
        "images": [{"id": n + 1, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(6)],
        "annotations": [{"id": 10 + n, "image_id": n + 1} | box for n in range(6)],
        "categories": [{"id": 3, "name": "cell"}, {"id": 9, "name": "plate"}],
    }
    (pictures / "labels.json").write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in pictures.iterdir()}
    out = tmp_path / "out"
    argv = ["--folds", "2", "--epochs", "1", "--num_workers", "0", "--shown", "3", "--output_dir", out]
    assert run("doubts", pictures, "--checkpoint", checkpoint, *argv) == 0
    found = json.loads((out / "doubts.json").read_text())
    labels = [row for row in found["doubts"] if row["annotation_id"] is not None]
    assert sorted(row["annotation_id"] for row in labels) == list(range(10, 16))
    assert {row["annotation_id"] - row["image_id"] for row in labels} == {9}
    assert sorted(row["fold"] for row in labels) == [0, 0, 0, 1, 1, 1]
    assert (out / "doubts.html").read_text().count("<li ") == 3
    assert sorted(path.name for path in out.iterdir()) == ["doubts.html", "doubts.json"]
    assert {path: path.read_bytes() for path in pictures.iterdir()} == before


def test_doubts_with_fewer_labelled_images_than_folds_is_one_line(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cell"}],
    }
    (pictures / "labels.json").write_text(json.dumps(content))
    assert run("doubts", pictures, "--checkpoint", checkpoint, "--output_dir", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("1 of its 1 images have labels, and --folds 3 needs at least 3; label more images")
