"""A user's mistake gives one line with the file, the id and the remedy before training, and changes no file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dino_detector.commands import train as command
from dino_detector.config.yaml_text import write_config
from dino_detector.inference.detector import Detector


class Place(NamedTuple):
    """A copy of the data set, a settings file, and an output folder with an earlier run."""

    folder: Path
    config: Path
    output_dir: Path

    def edit(self, split: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the annotations of ``train`` or ``val``."""
        path = self.folder / f"{split}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def cut(self, image: str) -> Path:
        """Truncate an image file."""
        path = self.folder / image
        path.write_bytes(path.read_bytes()[:600])
        return path


@pytest.fixture
def place(tmp_path, train_split, val_split, settings) -> Place:
    for split in (train_split, val_split):
        shutil.copytree(split.images, tmp_path / split.images.name)
        shutil.copy(split.annotations, tmp_path)
    paths = {f"{name}_images": tmp_path / name for name in ("train", "val")}
    paths |= {f"{name}_annotations": tmp_path / f"{name}.json" for name in ("train", "val")}
    output_dir = tmp_path / "out"
    output_dir.mkdir()
    for name in ("dino_detector_last.pth", "val_metrics_epoch_1.json", "config.yaml", "notes.txt"):
        (output_dir / name).write_text(f"{name} of an earlier run")
    write_config(settings(output_dir, **paths, epochs=1), tmp_path / "run.yaml")
    return Place(tmp_path, tmp_path / "run.yaml", output_dir)


@pytest.fixture
def refused(place, capsys, monkeypatch):
    """Run a command that must fail with one line and change no file; return the line."""
    monkeypatch.chdir(place.folder)

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(place.folder.rglob("*")) if path.is_file()}

    def run(*flags: Any, untouched: bool = True) -> str:
        before = contents()
        capsys.readouterr()
        assert command.main(["--config", str(place.config), *map(str, flags)]) == 2
        line = capsys.readouterr().err
        assert re.fullmatch("error: .*\n", line)
        assert not untouched or contents() == before
        return line

    return run


def the_third(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Return an edit that changes annotation 3, of image 25."""
    return lambda content: content["annotations"][2].update(changes)


def each_box(bbox: list[float]) -> Callable[[dict[str, Any]], None]:
    """Return an edit that changes all boxes."""
    return lambda content: [entry.update(bbox=bbox) for entry in content["annotations"]] and None


ANNOTATIONS = [
    ("train", the_third(image_id=999), ["id 3", "images 999"]),
    ("train", the_third(category_id=77), ["id 3", "categories 77"]),
    ("train", each_box([3, 4, 0, 9]), ["ids 1, 2, 3", "without width or height"]),
    ("train", each_box([90, 4, 5, 9]), ["ids 1, 2, 3", "outside their image"]),
    ("val", each_box([3, 4, 5, -9]), ["ids 1, 2, 3", "negative width or height"]),
    ("train", lambda content: content["annotations"].clear(), ["no boxes to train on", "annotate"]),
    ("train", lambda content: content.pop("categories"), ['"categories"', "add them"]),
    (
        "val",
        lambda content: content["images"].append(content["images"][0]),
        ["image ids that appear more than once", "id 300"],
    ),
    (
        "val",
        lambda content: (
            content["categories"].append({"id": 12, "name": "slate"}),
            the_third(category_id=12)(content),
        ),
        ["has boxes of 'slate', but the classes of", "train.json are 4 brick"],
    ),
    (
        "val",
        lambda content: content["categories"][0].update(name="stone"),
        ["has boxes of 'stone', but the classes of", "train.json are 4 brick", "add training images of it, or remove"],
    ),
]


@pytest.mark.parametrize(("split", "change", "parts"), ANNOTATIONS)
def test_wrong_annotations_are_named(place, refused, split, change, parts):
    place.edit(split, change)
    line = refused()
    for part in (f"{split}.json: ", *parts):
        assert part in line


def test_files_that_are_not_coco_are_named(place, refused):
    (place.folder / "train.json").write_text("[1, 2")
    assert "train.json: not JSON" in refused()
    (place.folder / "train.json").write_text("[1, 2]")
    assert "train.json: is a list, not a COCO detection file" in refused()
    (place.folder / "train.json").unlink()
    assert "train.json: no such annotation file" in refused()


def test_missing_images_are_named_with_their_id_and_counted(place, refused):
    (place.folder / "val" / "2.png").unlink()
    (place.folder / "val" / "4.png").unlink()
    line = refused()
    assert f"val.json: image files that are missing: 2 of 5 images, not in {place.folder}/val (2.png, 4.png)" in line
    assert f"{place.folder}/none: no such folder" in refused("--val_images", place.folder / "none")


FLAGS = [
    (["--image_size", "60"], ["image_size 60", "patch of 14", "use 56 or 70"]),
    (["--image_size", "56x99"], ["image_size 56x99", "use 56x98 or 56x112"]),
    (
        ["--augmentation", "true", "--multi_scale", "0.2"],
        ["multi_scale 0.2 changes image_size 56 by less than a patch of 14 pixels", "give at least 0.25, or 0"],
    ),
    (["--epohcs", "3"], ["unknown flag --epohcs", "did you mean --epochs?"]),
    (["--use_deformable", "maybe"], ["--use_deformable must be true or false"]),
    (["--batch_size", "0"], ["--batch_size must be at least 1"]),
    (["--backbone_architecture", '{"hidden_sise": 64}'], ["'hidden_sise'", "did you mean hidden_size?"]),
    (["--feature_layers", "[7]"], ["feature_layers has 7", "layers 0 to 1"]),
    (["--device", "banana"], ["'banana'", "auto, cpu"]),
    (["--device", "cuda:99"], ["'cuda:99' is not available"]),
    (["--precision", "16"], ["precision 16", "--precision 32"]),
    (["--output_dir", "run.yaml"], ["run.yaml: can't be written to", "--output_dir"]),
    (["--log_dir", "run.yaml", "--logger", "tensorboard"], ["run.yaml: can't be written to", "--log_dir"]),
    (["--checkpoint", "none.pth"], ["none.pth: no such checkpoint"]),
    (["--checkpoint", "run.yaml"], ["run.yaml: not a readable checkpoint"]),
    (["--only_evaluate"], ["--checkpoint"]),
    (["--only_evaluate", "--checkpoint", "none.pth"], ["none.pth: no such checkpoint"]),
]


@pytest.mark.parametrize(("flags", "parts"), FLAGS, ids=lambda value: " ".join(value))
def test_wrong_settings_are_named(refused, flags, parts):
    line = refused(*flags)
    for part in parts:
        assert part in line


def test_a_mistyped_setting_in_a_file_is_named(place, refused):
    place.config.write_text(place.config.read_text().replace("num_queries:", "num_qeuries:"))
    line = refused()
    assert "run.yaml: " in line
    assert "num_qeuries" in line
    assert "did you mean num_queries?" in line


@pytest.fixture(scope="module")
def finished(tmp_path_factory, train, frozen_base):
    """Return a run of two epochs on a frozen base."""
    return train(
        tmp_path_factory.mktemp("finished"),
        **frozen_base,
        epochs=2,
    )


@pytest.fixture
def resumes(place, finished) -> Path:
    """Write the finished run's settings to the place's file, and return its checkpoint."""
    data = finished.config.data
    text = finished.config.replace(epochs=3, output_dir=place.output_dir)
    write_config(text, place.config)
    place.config.write_text(
        place.config.read_text()
        .replace(str(data.train_images.parent), str(place.folder))
        .replace(str(data.val_images.parent), str(place.folder))
    )
    return finished.folder / "dino_detector_last.pth"


@pytest.mark.parametrize("what", ["resume", "evaluate"])
def test_another_class_set_than_the_checkpoints_is_refused(place, refused, resumes, what):
    for split in ("train", "val"):
        place.edit(split, lambda content: content["categories"][1].update(name="slate"))
    line = refused("--checkpoint", resumes, *["--only_evaluate"] * (what == "evaluate"))
    assert {"resume": "category 9 is ", "evaluate": "has boxes of 'slate', but the classes of"}[what] in line
    assert "'slate'" in line
    assert "tile" in line
    assert str(resumes) in line


@pytest.mark.parametrize("what", ["resume", "evaluate"])
def test_another_base_than_the_checkpoints_is_refused(place, refused, resumes, write_dinov2, what):
    other = write_dinov2(place.folder / "other", seed=5)
    line = refused("--checkpoint", resumes, "--dino_model", other, *["--only_evaluate"] * (what == "evaluate"))
    assert f"{resumes}: " in line
    assert "--dino_model" in line


def test_a_base_whose_weights_changed_is_refused(place, refused, train, write_dinov2):
    base = write_dinov2(place.folder / "base", seed=1)
    run = train(
        place.folder / "first",
        backbone_weights="pretrained",
        backbone_architecture={},
        dino_model=str(base),
        train_backbone="none",
        epochs=1,
    )
    write_config(run.config.replace(epochs=2, output_dir=place.output_dir), place.config)
    write_dinov2(base, seed=2)
    line = refused("--checkpoint", run.folder / "dino_detector_last.pth")
    assert "fingerprints differ" in line
    assert str(base) in line


def test_a_base_that_moved_is_known_by_its_weights(place, train, write_dinov2):
    base = write_dinov2(place.folder / "base", seed=1)
    run = train(
        place.folder / "first",
        backbone_weights="pretrained",
        backbone_architecture={},
        dino_model=str(base),
        train_backbone="none",
        epochs=1,
    )
    moved = base.rename(place.folder / "moved")
    write_config(run.config.replace(epochs=2, output_dir=place.output_dir, dino_model=str(moved)), place.config)
    last = str(run.folder / "dino_detector_last.pth")
    assert command.main(["--config", str(place.config), "--checkpoint", last]) == 0
    assert Detector.load(place.output_dir / "dino_detector_final.pth").config.backbone.dino_model == str(moved)


def test_differing_settings_are_listed_with_the_flags_that_fit(refused, resumes):
    line = refused("--checkpoint", resumes, "--learning_rate", 0.5, "--num_queries", 9, "--image_size", "84")
    for part in ("learning_rate 0.001 (here 0.5)", "num_queries 8 (here 9)", "image_size 56 (here 84)"):
        assert part in line
    flags = "--image_size 56 --num_queries 8 --learning_rate 0.001"
    assert f"; to resume it give {flags}, or start from scratch with --skip_checkpoint_load" in line
    assert "epochs" not in line


def test_a_finished_run_is_not_resumed(refused, resumes):
    line = refused("--checkpoint", resumes, "--epochs", 2)
    assert f"{resumes}: has been trained to epoch 2 already; give more with --epochs" in line


def test_a_damaged_checkpoint_is_named(place, refused, resumes):
    (place.folder / "cut.pth").write_bytes(resumes.read_bytes()[:5000])
    torch.save({"state_dict": {}}, place.folder / "other.pth")
    assert "cut.pth: not a readable checkpoint" in refused("--checkpoint", place.folder / "cut.pth")
    assert "other.pth: not a checkpoint of dino_detector" in refused("--checkpoint", place.folder / "other.pth")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_ends_an_evaluation_with_its_name_and_id(place, refused, resumes, num_workers):
    path = place.cut("val/3.png")
    line = refused("--only_evaluate", "--checkpoint", resumes, "--num_workers", num_workers)
    assert f"{path}: cannot be read as an image" in line
    assert "image 315" in line
    assert "val.json" in line


def test_an_unreadable_validation_image_is_found_before_training(place, refused):
    path = place.cut("val/3.png")
    line = refused()
    assert f"{path}: cannot be read as an image" in line
    assert "image 315" in line


def test_an_unreadable_training_image_is_skipped_and_the_summary_counts_it(place, caplog):
    path = place.cut("train/3.png")
    assert command.main(["--config", str(place.config)]) == 0
    (summary,) = (text for text in caplog.messages if text.startswith("1 image was unreadable and skipped"))
    assert f"{path}: cannot be read as an image" in summary


def test_when_no_training_image_can_be_read_it_says_so(place, refused):
    for position in range(7):
        place.cut(f"train/{position}.png")
    assert "none of the 7 images can be read" in refused(untouched=False)


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_the_command_itself_exits_with_2_and_one_line(place, warm_python):
    place.edit("train", lambda content: content["annotations"].clear())
    before = sorted(path.name for path in place.output_dir.iterdir())
    done = subprocess.run(
        [warm_python, "-m", "dino_detector.train", "--config", place.config],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {place.folder}/train.json: no boxes to train on among 0 annotations of 7 images; "
        "annotate at least one object that is not a crowd\n"
    )
    assert sorted(path.name for path in place.output_dir.iterdir()) == before


def test_ctrl_c_in_a_terminal_saves_and_says_how_to_resume(place, warm_python):
    """A terminal also signals the data workers, although the step still needs batches from them."""
    flags = ["--epochs", "1000", "--val_frequency", "1000", "--num_workers", "2"]
    flags += ["--batch_size", "1", "--accumulate_batches", "7"]
    process = subprocess.Popen(
        [warm_python, "-m", "dino_detector.train", "--config", place.config, *flags],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any(" 2/1000 " in line for line in process.stdout), "the files of the first epoch are there"
    os.killpg(process.pid, signal.SIGINT)
    rest, errors = process.communicate()
    assert process.returncode == 130
    last = place.output_dir / "dino_detector_last.pth"
    assert errors == f"stopped; resume with the same settings and --checkpoint {last}\n"
    assert "Traceback" not in rest
    assert rest.count("stopping after") == 1  # only the main process reports it
    assert torch.load(last, weights_only=True)["global_step"] >= 1
