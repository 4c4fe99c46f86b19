"""Recommended settings: their values follow the data and the machine, and training accepts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dino_detector.cli import main
from dino_detector.commands.arguments import parse_settings
from dino_detector.config import Config, ImageSize
from dino_detector.data_check.machine import GIB, PlannedMachine
from dino_detector.data_check.recommendation import Recommendation, recommend
from dino_detector.errors import InputError

pytestmark = pytest.mark.fast

CPU = PlannedMachine("cpu", 16 * GIB, 4, 100 * GIB, bf16=False)
GPU = PlannedMachine("cuda", 24 * GIB, 16, 500 * GIB, bf16=True)


def write(
    folder: Path,
    *,
    images: int = 40,
    size: tuple[int, int] = (640, 640),
    box: float = 100,
    boxes: int = 2,
    names: tuple[str, ...] = ("cat",),
    categories: dict[int, int] | None = None,
) -> Path:
    """Write a COCO data set without pictures; ``categories`` maps an image to the class of its boxes."""
    rows: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for number in range(boxes):
            place = [1.0 + number % 20, 1.0 + number // 20, box, box]
            category = (categories or {}).get(image, 1)
            rows.append(
                {"id": len(rows) + 1, "image_id": image, "category_id": category, "bbox": place, "iscrowd": 0}
                | {"area": box * box}
            )
    content = {
        "images": [
            {"id": image, "file_name": f"{image}.jpg", "width": size[0], "height": size[1]}
            for image in range(1, images + 1)
        ],
        "annotations": rows,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return folder


def found(folder: Path, machine: PlannedMachine = CPU, **shape: Any) -> Recommendation:
    return recommend(write(folder, **shape), machine=machine)


def test_a_cpu_gets_the_lightweight_preset_and_a_gpu_the_larger_model(tmp_path: Path) -> None:
    on_cpu, on_gpu = found(tmp_path / "a"), found(tmp_path / "b", GPU)
    assert on_cpu.settings["lightweight"] is True
    assert on_cpu.settings["dino_model"] == "facebook/dinov2-small"
    assert "lightweight" not in on_gpu.settings
    assert on_gpu.settings["dino_model"] == "facebook/dinov2-base"
    weak = recommend(tmp_path / "b", machine=GPU._replace(memory=6 * GIB))
    assert weak.settings["dino_model"] == "facebook/dinov2-small"


def test_the_size_grows_until_few_boxes_are_below_a_patch(tmp_path: Path) -> None:
    # 100 of 640 pixels are 35 pixels at 224, above a patch of 14; 20 of 640 are above it from 448 on
    assert found(tmp_path / "large", box=100).settings["image_size"] == ImageSize(224, 224)
    assert found(tmp_path / "small", box=20).settings["image_size"] == ImageSize(448, 448)


def test_boxes_that_no_size_shows_get_finer_levels_and_the_advice_to_cut_tiles(tmp_path: Path) -> None:
    tiny = found(tmp_path, box=20, size=(4000, 4000))
    assert tiny.settings["image_size"] == ImageSize(518, 518)
    assert tiny.settings["feature_scales"] == [4.0, 2.0, 1.0]
    assert any("--tile_size" in sentence for sentence in tiny.advice)


def test_images_of_one_shape_get_an_input_of_this_shape(tmp_path: Path) -> None:
    height, width = found(tmp_path, size=(1280, 640)).settings["image_size"]
    assert height % 14 == width % 14 == 0
    assert width / height == pytest.approx(2, rel=0.1)


def test_queries_and_counted_detections_follow_the_fullest_image(tmp_path: Path) -> None:
    crowded = found(tmp_path, boxes=250, images=21, box=30).settings
    assert crowded["num_queries"] == 300  # 250 and a fifth more
    assert crowded["max_detections"] == 300
    assert "max_detections" not in found(tmp_path / "few").settings


@pytest.mark.parametrize(("images", "epochs"), [(40, 50), (1000, 20), (30_000, 12)])
def test_fewer_images_get_more_epochs(tmp_path: Path, images: int, epochs: int) -> None:
    assert found(tmp_path, images=images, boxes=1).settings["epochs"] == epochs


def test_the_batch_fits_the_memory_and_keeps_some_steps_in_an_epoch(tmp_path: Path) -> None:
    assert found(tmp_path / "a", images=200).settings["batch_size"] == 4
    assert found(tmp_path / "b", images=10).settings["batch_size"] == 1
    small = recommend(tmp_path / "a", machine=GPU._replace(memory=3 * GIB)).settings
    assert small["batch_size"] * small["accumulate_batches"] == 4


def test_the_cache_is_left_out_where_the_disk_is_small(tmp_path: Path) -> None:
    assert found(tmp_path).settings["cache_trunk"] == "trunk_cache"
    assert "cache_trunk" not in recommend(tmp_path, machine=CPU._replace(disk=GIB // 100)).settings


def test_rare_classes_are_repeated(tmp_path: Path) -> None:
    rare = found(tmp_path, images=100, names=("cat", "dog"), categories={7: 2}).settings
    assert rare["repeat_threshold"] == 0.1
    half = dict.fromkeys(range(50), 2)
    assert "repeat_threshold" not in found(tmp_path / "even", images=100, names=("a", "b"), categories=half).settings


def test_without_validation_images_the_advice_says_so(tmp_path: Path) -> None:
    assert any("no validation split" in sentence for sentence in found(tmp_path).advice)


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_file_is_read_by_train_with_the_same_values(tmp_path: Path, machine: PlannedMachine) -> None:
    recommended = found(tmp_path, machine, boxes=150, box=20, size=(2000, 1000))
    path = tmp_path / "config.yaml"
    path.write_text(recommended.yaml_text())
    config, given = parse_settings([Config], ["data", "--config", str(path)], prog="train")
    assert given == {"data", *recommended.settings}
    for name, value in Config.from_flat(recommended.settings).flat().items():
        if name in recommended.settings:
            assert config.flat()[name] == value
    for name, reason in recommended.reasons.items():
        assert reason
        assert name in repr(recommended)


def test_the_command_writes_a_file_and_never_replaces_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", "data", "--device", "cpu"]) == 0
    written = Path("config.yaml").read_text()
    shown = capsys.readouterr().out
    assert "num_queries" in shown
    assert "dino-detector train data --config config.yaml" in shown
    assert main(["recommend", "data"]) == 2
    assert "config.yaml: exists" in capsys.readouterr().err
    assert Path("config.yaml").read_text() == written


def test_data_without_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no boxes to train on"):
        found(tmp_path, boxes=0)
