"""Every command line of the pages parses; one of each kind runs as written and leaves the documented files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from coco_server import CocoServer
from coco_tree import CATEGORIES, CocoTree, write_coco_tree
from documented_commands import COMMANDS, OURS, PAGES, PROGRAMS, ROOT, RUN, Command
from hub_cache import fill_hub_cache, serve_hub_cache
from PIL import Image

from dino_detector import ExportedDetector
from dino_detector.commands import frame, train
from dino_detector.config import Config
from dino_detector.download import is_complete
from dino_detector.inference.detector import Detector
from dino_detector.training.run_data import read_run_data

TINY = [
    *("--image_size", "28", "--num_workers", "0", "--device", "cpu", "--batch_size", "35", "--decoder_layers", "1"),
    *("--hidden_dim", "32", "--num_heads", "2", "--feedforward_dim", "32", "--box_head_dim", "32"),
]
"""flags that make a run short"""
COCO_IDS = {category["id"] for category in CATEGORIES}


def named(command: Command) -> str:
    return f"{command.page}-{' '.join(command.words)}"


class Understood(Exception):
    """The words of a command have become settings."""


@pytest.mark.parametrize("command", OURS, ids=named)
def test_every_flag_exists_and_takes_its_value(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stop each command after it has parsed its settings: no flag is unknown, of a wrong type or without effect."""
    monkeypatch.setattr(frame, "parse_settings", stop_after(frame.parse_settings))
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    (tmp_path / "outputs").mkdir()
    for folder in (tmp_path, tmp_path / "outputs"):
        (folder / "config.yaml").write_text("epochs: 40\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Understood):
        command.run()


def stop_after(parse: Callable[..., Any]) -> Callable[..., Any]:
    def parse_and_stop(*arguments: Any, **options: Any) -> None:
        parse(*arguments, **options)
        raise Understood

    return parse_and_stop


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, write_dinov2: Callable[..., Path]) -> Iterator[Path]:
    """Return a cache with the published names; the hub itself is unreachable."""
    folder = tmp_path_factory.mktemp("hub")
    fill_hub_cache(folder, [f"facebook/dinov2-{size}" for size in ("small", "base", "large", "giant")], write_dinov2)
    with pytest.MonkeyPatch.context() as patch:
        serve_hub_cache(folder, patch)
        yield folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> CocoTree:
    """Return a data set with enough images for `--debug_samples 64` and for `--test_mini_size 50`."""
    return write_coco_tree(tmp_path_factory.mktemp("small"), train=70, val=12, test=100)


@pytest.fixture(scope="module")
def server(small: CocoTree) -> Iterator[CocoServer]:
    with CocoServer() as server:
        server.add_tree(small.root)
        yield server


@pytest.fixture(scope="module")
def large_server(coco2017: CocoTree) -> Iterator[CocoServer]:
    with CocoServer() as server:
        server.add_tree(coco2017.root)
        yield server


def lay_out(folder: Path, coco: CocoTree) -> None:
    """Put the data where the commands look for it."""
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "coco").symlink_to(coco.root)
    for name in ("data", "bccd"):
        (folder / name / "annotations").mkdir(parents=True)
        for split in ("train", "val"):
            (folder / name / split).symlink_to(coco.root / f"{split}2017")
            listing = folder / name / "annotations" / f"instances_{split}.json"
            listing.symlink_to(coco.root / "annotations" / f"instances_{split}2017.json")
    export = folder / "my_export"  # CVAT's COCO, with one split
    (export / "images").mkdir(parents=True)
    (export / "images" / "default").symlink_to(coco.train_images)
    (export / "annotations").mkdir()
    (export / "annotations" / "instances_default.json").symlink_to(coco.train_annotations)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    (folder / "new_pictures").mkdir()
    for picture in sorted(coco.val_images.iterdir())[:3]:
        shutil.copy(picture, folder / "new_pictures")
    shutil.copy(next(coco.val_images.iterdir()), folder / "photo.jpg")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, hub: Path, small: CocoTree, coco2017: CocoTree) -> Iterator[Path]:
    """Return a folder with the files of a training of 21 epochs, evaluations, and a mini set."""
    folder = tmp_path_factory.mktemp("earlier")
    before = Path.cwd()
    os.chdir(folder)
    data = ["--train_images", small.train_images, "--train_annotations", small.train_annotations]
    data += ["--val_images", small.val_images, "--val_annotations", small.val_annotations]
    tests = ["--testdev_images", small.test_images]
    big = {"train_images": coco2017.train_images, "train_annotations": coco2017.train_annotations}
    evaluation = ["--only_evaluate", "--checkpoint", "outputs/dino_detector_final.pth", *TINY, *data[4:], *tests]
    try:
        assert run_train([*data, *tests, *TINY, "--epochs", "21", "--val_frequency", "10"]) == 0
        assert run_train([*evaluation, "--output_dir", "eval_outputs"]) == 0
        assert run_train([*evaluation, "--output_dir", "test_outputs"]) == 0
        mini = Config.from_flat(big | {"use_coco_mini": True})
        read_run_data(mini, training=True).write_subsets(folder / "outputs")
    finally:
        os.chdir(before)
    return folder


def run_train(words: list[object]) -> int:
    return train.main([str(word) for word in words])


@pytest.fixture
def place(
    tmp_path: Path, earlier: Path, small: CocoTree, coco2017: CocoTree, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Command], Path]:
    """Prepare a command's own folder, with the data and the files of an earlier run."""

    def prepare(command: Command) -> Path:
        lay_out(tmp_path, coco2017 if command.has("--use_coco_mini") else small)
        for name in ("outputs", "eval_outputs", "test_outputs"):
            shutil.copytree(earlier / name, tmp_path / name)
        if command.value("--config") == "config.yaml":  # of recommend
            (tmp_path / "config.yaml").write_text("epochs: 40\n")
        if "analyze_results.py" in command.words:
            (tmp_path / "coco_data").symlink_to(small.root)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return prepare


@pytest.mark.parametrize("command", RUN, ids=named)
def test_the_command_does_what_its_words_say(
    command: Command,
    place: Callable[[Command], Path],
    server: CocoServer,
    large_server: CocoServer,
    warm_python: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = place(command)
    if command.has("--use_coco_mini"):
        server = large_server
    started = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    requests = len(server.requests)
    extra = tiny(command) if command.name in ("train", "evaluate") else []
    if command.name == "doubts":
        extra = ["--epochs", "1", "--folds", "2", "--num_workers", "0"]
    downloads = any(word.startswith("--download_") for word in command.words)
    if downloads:
        extra += ["--coco_url", server.url, "--coco_checksums", str(server.write_checksums(folder / "sums.txt"))]
    if command.has("--distributed"):
        code = subprocess.run([warm_python, *command.words[1:], *extra], check=False).returncode
    else:
        code = command.run(extra)
    assert code == 0
    assert capsys.readouterr().err == ""
    check(command, folder, started)
    if not downloads:
        assert len(server.requests) == requests


def tiny(command: Command) -> list[str]:
    """Return flags that make a run short; a resumed run continues for one epoch."""
    if command.has("--only_evaluate") or command.name == "evaluate":
        return TINY[2:6]
    quick = []
    if command.has("--use_coco_mini"):
        quick = ["--batch_size", "250", "--num_queries", "25", "--feature_scales", "1", "--augmentation", "false"]
        quick += ["--denoising_queries", "0"]
    return [*TINY, "--epochs", "22" if command.resumes else "1", *quick]


def check(command: Command, folder: Path, started: dict[Path, int]) -> None:
    if command.name == "analyze":
        check_analysis(command, folder, started)
    elif command.name == "download":
        check_download(command, folder)
    elif command.name != "train":
        check_command(command.name, folder)
    elif command.has("--only_evaluate"):
        check_evaluation(command, folder)
    else:
        check_run(command, folder)


def check_run(command: Command, folder: Path) -> None:
    output_dir = folder / (command.value("--output_dir") or "outputs")
    config = yaml.safe_load((output_dir / "config.yaml").read_text())
    for kind in ("last", "final", f"epoch_{config['epochs']}"):
        detector = Detector.load(output_dir / f"dino_detector_{kind}.pth", device="cpu")
        assert detector.categories.ids == tuple(sorted(COCO_IDS))
    moved = bool(list(output_dir.glob("earlier_*")))
    goes_back = command.resumes and command.value("--checkpoint").endswith("epoch_20.pth")  # of 21 epochs
    assert moved == (output_dir.name == "outputs" and (not command.resumes or goes_back))
    events = list((folder / (command.value("--log_dir") or output_dir) / "tensorboard").glob("*/events.*"))
    assert (command.value("--experiment_name") or "") in max(events, key=os.path.getmtime).parent.name

    flags = ("--val_annotations", "--download_val_data", "--debug", "--val_fraction", "data")
    evaluated = any(map(command.has, flags))
    numbers = output_dir / f"val_metrics_epoch_{config['epochs']}.json"
    assert numbers.exists() == (evaluated or command.has("--config"))
    light = command.has("--lightweight")
    assert config["lightweight"] is light
    if not command.has("--use_coco_mini"):
        assert config["num_queries"] == int(command.value("--num_queries") or (25 if light else 100))
    expected = command.value("--dino_model") or f"facebook/dinov2-{'small' if light else 'base'}"
    assert config["dino_model"] == expected
    if command.has("--debug"):
        size = int(command.value("--debug_samples") or 32)
        assert (config["augmentation"], config["learning_rate"]) == (False, 5e-4)
        assert json.loads(numbers.read_text())["num_images"] == size
        assert len(json.loads((output_dir / f"debug_{size}_seed42_indices.json").read_text())["image_ids"]) == size
    if command.has("--download_train_data"):
        fetched = len(list((folder / "coco_data" / "train2017").iterdir()))
        whole = 1_000 if command.has("--use_coco_mini") else 70
        assert fetched == (int(command.value("--debug_samples") or 32) if command.has("--debug") else whole)
    if command.has("--use_coco_mini"):
        size, seed = command.value("--coco_mini_size") or "1k", command.value("--coco_mini_seed") or "42"
        content = json.loads((output_dir / f"coco_mini_{size}_seed{seed}_indices.json").read_text())
        assert len(content["image_ids"]) == {"1k": 1_000, "5k": 5_000, "10k": 10_000}[size]
        if command.has("--coco_mini_indices_file"):
            (before,) = output_dir.glob("earlier_*/coco_mini_1k_seed42_indices.json")
            assert json.loads(before.read_text()) == content


def check_evaluation(command: Command, folder: Path) -> None:
    output_dir = folder / (command.value("--output_dir") or "outputs")
    assert yaml.safe_load((output_dir / "evaluation.yaml").read_text())["num_queries"] == 100
    if command.has("--val_annotations") or command.has("--download_val_data"):
        assert json.loads((output_dir / "val_metrics.json").read_text())["num_images"] == 12
    if command.has("--testdev_images") or command.has("--download_test_data"):
        check_results(output_dir / "testdev_predictions_final.json")
        images = json.loads((output_dir / "testdev_image_info.json").read_text())["images"]
        few = int(command.value("--test_mini_size") or 30)
        assert len(images) == (few if command.has("--test_mini") else 50)
        assert command.has("--test_mini") == (output_dir / f"test_mini_{few}_seed42_indices.json").exists()


def check_results(path: Path) -> None:
    """Check the format of https://cocodataset.org/#format-results, original ids, and at most 100 boxes an image."""
    rows = json.loads(path.read_text())
    assert rows
    per_image: dict[int, list[float]] = {}
    for row in rows:
        assert row.keys() == {"image_id", "category_id", "bbox", "score"}
        assert row["category_id"] in COCO_IDS
        left, top, width, height = row["bbox"]
        assert min(left, top, width, height) >= 0
        per_image.setdefault(row["image_id"], []).append(row["score"])
    assert list(per_image) == sorted(per_image)
    assert all(len(scores) <= 100 and scores == sorted(scores, reverse=True) for scores in per_image.values())


def check_command(name: str, folder: Path) -> None:
    if name == "evaluate":
        assert json.loads((folder / "outputs" / "val_metrics.json").read_text())["num_images"] == 12
    elif name == "predict":
        drawn = Image.open(folder / "outputs" / "predictions" / "photo.jpg")
        assert drawn.size == Image.open(folder / "photo.jpg").size
    elif name == "export":
        assert ExportedDetector.load(folder / "detector.onnx").predict(folder / "photo.jpg", threshold=0.0)
    elif name == "convert":
        assert len(list((folder / "data_coco").glob("*/*.jpg"))) == 82
    elif name == "recommend":
        assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == "data"
    elif name == "suggest":
        assert all(Path(line).is_file() for line in (folder / "outputs/suggestions/suggested.txt").read_text().split())
    elif name == "doubts":
        assert json.loads((folder / "outputs" / "doubts" / "doubts.json").read_text())["images"] == 82
    elif name == "label":
        assert len(json.loads((folder / "outputs" / "prelabels" / "tasks.json").read_text())) == 3
    else:
        assert name == "data"  # it writes no file; other tests check its output


def check_download(command: Command, folder: Path) -> None:
    for split in ("train", "val", "test"):
        assert is_complete(split, folder / "coco_data") == command.has(f"--download_{split}")


def check_analysis(command: Command, folder: Path, started: dict[Path, int]) -> None:
    """Check that all new files lie in the output folder, and that old files are unchanged."""
    output_dir = folder / (command.value("--output_dir") or "outputs/analysis")
    now = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    new = {path for path in now if now[path] != started.get(path)}
    assert new
    assert all(path.is_relative_to(output_dir) for path in new)
    assert started.keys() <= now.keys()
    for path in new:
        if path.suffix in (".png", ".jpg"):
            Image.open(path).load()
    assert command.has("--run_eval") == (output_dir / "val_metrics.json").exists()


def test_what_runs_here_shows_every_documented_program_and_flag() -> None:
    assert {command.program for command in RUN} == PROGRAMS.keys()
    for flag in {word for command in OURS for word in command.words if word.startswith("--")}:
        assert any(command.has(flag) for command in RUN), flag


def test_the_pages_hold_no_other_commands() -> None:
    others = [command for command in COMMANDS if command.program not in PROGRAMS]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in others:
        if command.words[0] == "make":
            assert command.words[1] in targets
        elif command.words[0] == "tensorboard":
            assert command.value("--logdir") == "outputs/tensorboard"
        elif command.words != (".", ".venv/bin/activate"):
            assert command.words[:4] == ("python3", "-m", "pip", "install"), command
            assert command.words[4:] in (("-r", "requirements.txt"), ("-e", ".")), command
    for page in PAGES:
        assert not re.search(r"```(sh|shell|console)\b", page.read_text()), "commands stand in ```bash blocks"


def test_every_flag_of_a_coco_run_is_documented() -> None:
    text = " ".join(word for command in COMMANDS if command.page == "coco.md" for word in command.words)
    for flag in (
        *("train_images", "train_annotations", "val_images", "val_annotations", "testdev_images", "output_dir"),
        *("download_train_data", "download_val_data", "download_test_data", "checkpoint", "skip_checkpoint_load"),
        *("only_evaluate", "debug", "debug_samples", "debug_lr", "use_coco_mini", "coco_mini_size", "coco_mini_seed"),
        *("coco_mini_indices_file", "test_mini", "test_mini_size", "lightweight", "dino_model", "distributed"),
        *("world_size", "memory_monitor", "log_dir", "log_frequency", "experiment_name", "log_images"),
        *("log_images_frequency", "download_train", "download_val", "download_test"),
    ):
        assert re.search(rf"--{flag}\b", text), flag


@pytest.mark.parametrize("script", ["download_coco.py", "analyze_results.py"])
def test_a_script_of_the_root_runs_and_exits_with_2_on_a_mistake(script: str, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, ROOT / script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert re.fullmatch("error: give .*\n", run.stderr)
    helped = subprocess.run(
        [sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert helped.stdout.startswith(f"usage: python3 {script} ")


def test_the_pages_link_to_files_that_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_pages_name_files_that_exist() -> None:
    named_files = re.compile(r"\b(?:dino_detector|benchmarks|tools|tests|docs)/[a-z0-9_/]+\.(?:py|yaml|md)\b")
    for page in PAGES:
        for path in named_files.findall(page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Restore the number of threads, which commands may change."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
