"""Unusual data: strange names, pictures of more than 8 bits, several frames, and no boxes at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_detector import cli
from dino_detector.config.yaml_text import write_config
from dino_detector.inference.detector import Detector

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
NAMES = (
    "two\nlines",
    "\x1b[31mred",
    "nul\0",
    "x" * 5000,
    "\u202ereversed",
    "<b>&amp;",
    "猫 \U0001f408",
    "a/b\\c:d",
    " a ",
)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def give_odd_names(content: dict[str, Any]) -> None:
    content["categories"] = [{"id": 4 + 5 * position, "name": name} for position, name in enumerate(NAMES)]


def without_controls(capfd: pytest.CaptureFixture[str]) -> str:
    """Check that a command's output has no control characters, and return it."""
    shown = "".join(capfd.readouterr())
    assert not CONTROL.search(shown.replace("\r", "")), CONTROL.search(shown)
    return shown


def test_odd_names_go_through_every_command_and_stay_as_they_are(settings, draw_boxes, tmp_path, capfd):
    split = draw_boxes(tmp_path, "train", 3)
    change(split.annotations, give_odd_names)
    data = {"train_images": split.images, "train_annotations": split.annotations, "batch_size": 3, "epochs": 1}
    data["keep_empty_classes"] = True
    config = settings(tmp_path / "out", val_images=split.images, val_annotations=split.annotations, **data)
    write_config(config, tmp_path / "run.yaml")
    best, found = tmp_path / "out" / "dino_detector_last.pth", tmp_path / "out" / "val_metrics_epoch_1.json"
    commands = [
        ["data", split.annotations, "--images", split.images],
        ["train", "--config", tmp_path / "run.yaml", "--log_images", "--logger", "tensorboard"],
        ["evaluate", "--config", tmp_path / "run.yaml", "--checkpoint", best, "--output_dir", tmp_path / "evaluated"],
        ["analyze", "--metrics_file", found, "--output_dir", tmp_path / "analysis"],
        ["predict", split.images, "--checkpoint", best, "--output_dir", tmp_path / "found", "--threshold", "0.01"],
    ]
    for command in commands:
        assert cli.main([str(word) for word in command]) == 0
        shown = without_controls(capfd)
        assert "x" * 200 not in shown, "a name of 5,000 characters"
    assert Detector.load(best).categories.names == NAMES
    names = {row["category_id"]: row["name"] for row in json.loads(found.read_text())["per_class"]}
    assert names == {4 + 5 * position: name for position, name in enumerate(NAMES)}
    page = (tmp_path / "analysis" / "report.html").read_text(encoding="utf-8")
    assert "<b>&amp;" not in page
    assert str(tmp_path) not in page, "a page that is sent to others tells nothing of this machine"


def test_a_terminal_of_any_encoding_is_spoken_to(settings, draw_boxes, tmp_path, warm_python):
    split = draw_boxes(tmp_path, "train", 2)
    change(split.annotations, lambda content: content["categories"][0].update(name="猫 \U0001f408 \udc80"))
    data = {f"{part}_{what}": value for part in ("train", "val") for what, value in split._asdict().items()}
    write_config(settings(tmp_path / "out", **data, logger=[], epochs=1), tmp_path / "r.yaml")
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    commands = {
        "ascii": [warm_python, "train", "--config", tmp_path / "r.yaml"],
        "cp1252": [sys.executable, "data", split.annotations, "--images", split.images],
    }
    for encoding, (python, *words) in commands.items():
        environment["PYTHONIOENCODING"] = encoding
        command = [python, "-m", "dino_detector", *(str(word) for word in words)]
        run = subprocess.run(command, env=environment, capture_output=True, encoding=encoding)
        assert run.returncode == 0, run.stderr[-2000:]
        assert run.stderr == ""
        assert r"\u732b" in run.stdout, "the name is in the last evaluation and in the counts of classes"


def make_deep(folder: Path, *, largest: int) -> None:
    """Turn 8-bit pictures into grey 16-bit pictures with the values of a camera of fewer bits."""
    for path in folder.iterdir():
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"), dtype=np.uint16)
        Image.fromarray((grey.astype(np.float64) / 255 * largest).round().astype(np.uint16)).save(path)


def test_the_white_level_of_deep_pictures_is_said_kept_and_used(settings, draw_boxes, tmp_path, caplog, monkeypatch):
    """A dark picture stays dark for the detector, whatever its largest value is."""
    split = draw_boxes(tmp_path, "train", 4)
    make_deep(split.images, largest=4000)
    changes = {"train_images": split.images, "train_annotations": split.annotations, "epochs": 1, "logger": []}
    config = settings(tmp_path / "out", val_images=split.images, val_annotations=split.annotations, **changes)
    write_config(config, tmp_path / "run.yaml")
    assert cli.main(["train", "--config", str(tmp_path / "run.yaml")]) == 0
    said = "4 of 4 pictures have more than 8 bits; their white level, from the largest value, is 4095 (--white_level)"
    assert caplog.messages.count(said) == 1
    assert "white_level: 4095.0" in (tmp_path / "out" / "config.yaml").read_text()

    detector = Detector.load(tmp_path / "out" / "dino_detector_last.pth")
    shades, detect = [], detector.detect
    monkeypatch.setattr(detector, "detect", lambda images: shades.extend(images) or detect(images))
    for level in (400, 4000):
        Image.fromarray(np.full((60, 80), level, np.uint16)).save(tmp_path / "flat.png")
        detector.predict(tmp_path / "flat.png")
    assert [shade.unique().tolist() for shade in shades] == [[round(400 / 4095 * 255)], [round(4000 / 4095 * 255)]]


def test_several_frames_are_said_once_in_training(train, draw_boxes, tmp_path, caplog):
    split = draw_boxes(tmp_path, "train", 4)
    for path in list(split.images.iterdir())[:2]:
        with Image.open(path) as image:
            first = image.convert("RGB")
        first.save(path.with_suffix(".tif"), save_all=True, append_images=[Image.new("RGB", first.size)])
        change(split.annotations, lambda content, path=path: rename(content, path.name, path.stem + ".tif"))
    train(tmp_path / "out", train_images=split.images, train_annotations=split.annotations, epochs=1)
    said = [line for line in caplog.messages if "several frames" in line]
    assert said == ["2 of 4 pictures have several frames; only the first is used"]


def rename(content: dict[str, Any], old: str, new: str) -> None:
    for image in content["images"]:
        if image["file_name"] == old:
            image["file_name"] = new


def test_validation_images_without_boxes_have_no_ap(train, draw_boxes, tmp_path, caplog):
    """COCO's -1 means "no ground truth" and is not shown as an AP."""
    split = draw_boxes(tmp_path, "val", 2)
    change(split.annotations, lambda content: content.update(annotations=[]))
    with caplog.at_level("INFO", logger="dino_detector"):
        run = train(tmp_path / "out", val_images=split.images, val_annotations=split.annotations, epochs=1)
    assert run.metrics.AP == -1
    [line] = [line for line in caplog.messages if line.startswith("epoch ")]
    assert "AP -  AP50 -" in line
    assert not (tmp_path / "out" / "dino_detector_best.pth").exists()
    assert (tmp_path / "out" / "dino_detector_final.pth").exists()


@pytest.mark.parametrize("area", [-1, float("inf"), "large", [1]])
def test_an_area_that_would_change_ap_without_a_word_is_refused(area, settings, draw_boxes, tmp_path, capsys):
    split = draw_boxes(tmp_path, "val", 2)
    change(split.annotations, lambda content: content["annotations"][1].update(area=area))
    config = settings(tmp_path / "out", val_images=split.images, val_annotations=split.annotations)
    write_config(config, tmp_path / "run.yaml")
    assert cli.main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: {split.annotations}: .*area.*id 2.*\n", error), error
