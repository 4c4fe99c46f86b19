"""A full disk ends every command with one line, and leaves no partial file."""

from __future__ import annotations

import contextlib
import json
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import nn

from dino_detector import cli
from dino_detector.config import Config
from dino_detector.config.yaml_text import write_config
from dino_detector.errors import InputError


def limit_files(size: int) -> None:
    """Limit all files to ``size`` bytes, which stands in for a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextlib.contextmanager
def nearly_full(size: int) -> Iterator[None]:
    limit_files(size)
    try:
        yield
    finally:
        limit_files(resource.RLIM_INFINITY)


@pytest.fixture(scope="module")
def trained(settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained detector, saved as training saves it."""
    from dino_detector.inference.detector import build_detector
    from dino_detector.structures.categories import Categories

    folder = tmp_path_factory.mktemp("trained")
    config = settings(folder, num_queries=60)
    build_detector(config, categories=Categories(ids=(4, 9), names=("brick", "tile"))).save(folder / "detector.pth")
    return folder / "detector.pth"


COMMANDS = {
    "predict": "predict {val.images} --checkpoint {checkpoint} --output_dir {out} --device cpu",
    "evaluate": "train --only_evaluate --checkpoint {checkpoint} --val_images {val.images} --val_annotations "
    "{val.annotations} --output_dir {out} --device cpu --num_workers 0",
    "analyze": "analyze --run_eval --model_path {checkpoint} --val_images {val.images} --val_annotations "
    "{val.annotations} --output_dir {out} --device cpu --num_workers 0",
    "export": "export --checkpoint {checkpoint} --output {out}/detector.onnx",
    "data": "data {val.annotations} --images {val.images} --output {out}/check.json",
    "train": "train --config {config} --output_dir {out}",
}


def complete(path: Path) -> bool:
    """Return whether a file can be read to its end."""
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix in {".png", ".jpg"}:
        Image.open(path).load()
    return path.suffix != ".onnx"


@pytest.mark.parametrize(
    ("name", "size", "file"),
    [
        ("predict", 20, ""),
        ("predict", 300, "/predictions_images.json"),
        ("predict", 1_000, "/0.png"),
        ("predict", 9_000, "/predictions.json"),
        ("evaluate", 300, "/evaluation.yaml"),
        ("evaluate", 3_000, "/val_predictions.json"),
        ("analyze", 3_000, "/val_predictions.json"),
        ("analyze", 30_000, "/report.html"),
        ("export", 100_000, "/detector.onnx"),
        ("data", 300, "/check.json"),
        ("train", 20, ""),
        ("train", 300, "/config.yaml"),
    ],
)
def test_every_command_ends_with_one_line(
    name, size, file, trained, settings, val_split, tmp_path, capsys, monkeypatch
):
    convert = torch.onnx.export

    def convert_less(network, images, *, opset_version, **settings):
        return convert(nn.Linear(200, 200), (torch.zeros(1, 200),), opset_version=opset_version, dynamo=True)

    monkeypatch.setattr(torch.onnx, "export", convert_less)  # another network that does not fit, but within a second
    write_config(settings(tmp_path / "out"), tmp_path / "run.yaml")
    places = {"checkpoint": trained, "val": val_split, "out": tmp_path / "out", "config": tmp_path / "run.yaml"}
    with nearly_full(size):
        assert cli.main(COMMANDS[name].format(**places).split()) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: {tmp_path}/out{file}: can't be written, the disk is full[^\n]*\n", said)
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(complete(path) for path in left)
    assert not [path for path in left if path.name.startswith(".")], "nothing temporary, and no lock"


class FillTheDisk(Callback):
    """From the second epoch on, limit all files to the size of the event file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            events = next(self.folder.rglob("events.out.tfevents.*"))
            limit_files(events.stat().st_size + 1)


def test_event_files_that_do_not_fit_end_training_with_one_line(train, tmp_path, capfd):
    try:
        with pytest.raises(InputError, match=rf"{tmp_path}/out.*the disk is full.*; resume with --checkpoint .*last"):
            train(tmp_path / "out", FillTheDisk(tmp_path / "out"), logger=["tensorboard"], log_frequency=1)
    finally:
        limit_files(resource.RLIM_INFINITY)
    assert "Traceback" not in capfd.readouterr().err
