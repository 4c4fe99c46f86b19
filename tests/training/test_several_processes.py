"""``--distributed`` on two CPU processes: one command, the results of one process, every file written once."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dino_detector.config import Config
from dino_detector.config.yaml_text import write_config
from dino_detector.training.run_files import finished_epochs

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


Start = Callable[..., subprocess.Popen[str]]
"""begins a run with a configuration file, flags, and options of `subprocess.Popen`"""


@pytest.fixture(scope="module")
def start(warm_python: Path) -> Start:
    return partial(start_with, warm_python)


def start_with(
    python: Path | str,
    config: Path,
    *flags: object,
    program: tuple[object, ...] = ("-m", "dino_detector.train"),
    **options: Any,
) -> subprocess.Popen[str]:
    words = [python, *program, "--config", config, *flags]
    return subprocess.Popen(
        [str(word) for word in words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate()
    assert process.returncode == code, err[-3000:]
    return out, err


@pytest.fixture(scope="module")
def runs(
    start: Start, tmp_path_factory: pytest.TempPathFactory, settings: Callable[..., Config], val_split: Any
) -> dict[str, tuple[Path, str, str]]:
    """Return folder, stdout and stderr of a training run in two processes, and of its evaluations in one and in two.

    The seven training, five validation and five test images do not divide by two. Training batches have many sizes.
    """
    folder = tmp_path_factory.mktemp("several")
    config = folder / "run.yaml"
    strong = {
        "logger": ["tensorboard"],
        "augmentation": True,
        "multi_scale": 0.5,
        "mosaic_probability": 0.5,
        "copy_paste_probability": 0.5,
    }
    write_config(settings(folder / "train", epochs=2, testdev_images=val_split.images, **strong), config)
    out, err = finish(start(config, "--distributed", "--memory_monitor"))
    found = {"train": (folder / "train", out, err)}
    checkpoint = folder / "train" / "dino_detector_final.pth"
    evaluations = {
        name: start(config, "--only_evaluate", "--checkpoint", checkpoint, "--output_dir", folder / name, *flags)
        for name, flags in (("one", ()), ("two", ("--distributed", "--world_size", "2")))
    }
    return found | {name: (folder / name, *finish(process)) for name, process in evaluations.items()}


def test_two_processes_give_the_metrics_of_one(runs: dict[str, tuple[Path, str, str]]) -> None:
    one, two = (json.loads((runs[name][0] / "val_metrics.json").read_text()) for name in ("one", "two"))
    assert one["num_images"] == two["num_images"] == 5
    assert one == two


def test_training_ends_with_the_metrics_that_one_process_finds(runs: dict[str, tuple[Path, str, str]]) -> None:
    trained = json.loads((runs["train"][0] / "val_metrics_epoch_2.json").read_text())
    alone = json.loads((runs["one"][0] / "val_metrics.json").read_text())
    for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100"):
        assert trained[name] == pytest.approx(alone[name], abs=1e-6)
    assert trained["num_images"] == 5
    assert trained["images_seen"] == 2 * 8, "seven images are padded to eight, so that no process waits"


@pytest.mark.parametrize("name", ["val_predictions.json", "testdev_predictions_final.json"])
def test_each_image_is_detected_in_once(name: str, runs: dict[str, tuple[Path, str, str]]) -> None:
    one, two = (json.loads((runs[run][0] / name).read_text()) for run in ("one", "two"))
    assert len(one) == len(two) > 0
    for row, other in zip(one, two, strict=True):
        assert row["image_id"] == other["image_id"]
        assert row["score"] == pytest.approx(other["score"], abs=1e-5)
    images = {row["image_id"] for row in two}
    assert len(images) == 5
    assert all(sum(row["image_id"] == image for row in two) <= 16 for image in images)  # 8 queries, 2 classes


def test_every_file_and_line_comes_once(runs: dict[str, tuple[Path, str, str]]) -> None:
    folder, out, err = runs["train"]
    assert out.count("epoch 1/2") == out.count("epoch 2/2") == 1
    assert out.count("peak memory after epoch 1") == 1
    assert "on cpu in 2 processes" in out
    assert len(re.findall("^precision ", out, flags=re.MULTILINE)) == 1
    assert err == ""
    assert len(list((folder / "tensorboard").glob("*/events.*"))) == 1
    assert not list(folder.glob("earlier_*"))
    assert not list(folder.glob(".*")), "nothing unfinished is left"
    assert (folder / "testdev_predictions_final.json").exists()


def test_one_image_serves_two_processes(start: Start, runs: dict[str, tuple[Path, str, str]]) -> None:
    folder = runs["train"][0].parent
    checkpoint = runs["train"][0] / "dino_detector_final.pth"
    flags = ("--only_evaluate", "--checkpoint", checkpoint, "--output_dir", folder / "few", "--distributed")
    finish(start(folder / "run.yaml", *flags, "--test_mini", "--test_mini_size", 1))
    rows = json.loads((folder / "few" / "testdev_predictions_final.json").read_text())
    assert len({row["image_id"] for row in rows}) == 1
    assert 0 < len(rows) <= 16  # 8 queries, 2 classes


def test_pictures_that_no_process_can_read_are_all_counted(
    start: Start, runs: dict[str, tuple[Path, str, str]], val_split: Any, tmp_path: Path
) -> None:
    """Different processes read two neighbours in the order of the names."""
    shutil.copytree(val_split.images, tmp_path / "pictures")
    for name in ("1.png", "2.png"):
        (tmp_path / "pictures" / name).with_suffix(".jpg").write_bytes(truncated_jpeg())
        (tmp_path / "pictures" / name).unlink()
    checkpoint = runs["train"][0] / "dino_detector_final.pth"
    flags = ("--only_evaluate", "--checkpoint", checkpoint, "--output_dir", tmp_path / "out", "--distributed")
    process = start(runs["train"][0].parent / "run.yaml", *flags, "--testdev_images", tmp_path / "pictures")
    _, err = finish(process, code=2)
    assert re.fullmatch(r"error: .*1\.jpg: cannot be read .*; 1 more could not be read; .*\n", err)
    rows = json.loads((tmp_path / "out" / "testdev_predictions_final.json").read_text())
    assert {row["image_id"] for row in rows} == {0, 3, 4}


def test_a_validation_image_that_one_process_cannot_read_is_one_line(
    start: Start, runs: dict[str, tuple[Path, str, str]], val_split: Any, tmp_path: Path
) -> None:
    shutil.copytree(val_split.images, tmp_path / "val")
    broken = sorted((tmp_path / "val").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:100])
    checkpoint = runs["train"][0] / "dino_detector_final.pth"
    flags = ("--only_evaluate", "--checkpoint", checkpoint, "--val_images", tmp_path / "val", "--distributed")
    _, err = finish(start(runs["train"][0].parent / "run.yaml", *flags, "--output_dir", tmp_path / "out"), code=2)
    assert re.fullmatch(rf"error: .*{broken.name}: .*\n", err)


def truncated_jpeg() -> bytes:
    """Return a picture with a complete header and truncated pixels."""
    file = io.BytesIO()
    Image.effect_noise((80, 60), 90).convert("RGB").save(file, "JPEG")
    return file.getvalue()[:2000]


def test_a_mistake_is_one_line_from_one_process(start: Start, runs: dict[str, tuple[Path, str, str]]) -> None:
    config = runs["train"][0].parent / "run.yaml"
    _, err = finish(start(config, "--distributed", "--num_classes", "7"), code=2)
    assert err.count("\n") == 1
    assert err.startswith("error: ")


def test_the_other_processes_read_what_the_run_moves_aside(
    start: Start, runs: dict[str, tuple[Path, str, str]], tmp_path: Path
) -> None:
    """Run in the folder of an earlier run, with that run's settings and checkpoint."""
    folder = tmp_path / "again"
    shutil.copytree(runs["train"][0], folder)
    checkpoint = folder / "dino_detector_last.pth"
    flags = ("--distributed", "--output_dir", folder, "--checkpoint", checkpoint, "--skip_checkpoint_load")
    out, err = finish(start(folder / "config.yaml", *flags))
    assert err == ""
    assert out.count("moved the files of an earlier run") == 1
    (earlier,) = folder.glob("earlier_*")
    assert (earlier / "config.yaml").exists()
    assert (earlier / "dino_detector_last.pth").exists()
    assert checkpoint.exists()


def test_what_no_process_has_memory_for_is_one_line(
    start: Start, tmp_path: Path, settings: Callable[..., Config]
) -> None:
    """One process runs out of memory in the rehearsal; the others end with it."""
    write_config(settings(tmp_path / "out", batch_size=4), tmp_path / "run.yaml")
    (tmp_path / "command.py").write_text(
        "import os, sys\n"
        "import dino_detector.training.memory as rehearsal\n"
        "from dino_detector.train import main\n"
        "take = rehearsal.take\n"
        "def limited(step, *args, **settings):\n"
        "    if os.environ.get('LOCAL_RANK') == '1' and step.batch_size > 2:\n"
        "        raise MemoryError\n"
        "    return take(step, *args, **settings)\n"
        "rehearsal.take = limited\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    _, err = finish(start(tmp_path / "run.yaml", "--distributed", program=(tmp_path / "command.py",)), code=2)
    assert re.fullmatch("error: out of memory: a step of 4 images .*--batch_size 2 --accumulate_batches 2 fits\n", err)


def test_processes_stop_early_together(start: Start, tmp_path: Path, settings: Callable[..., Config]) -> None:
    """With a learning rate of 0 AP never rises; a process that continued alone would wait for the other forever."""
    config = settings(tmp_path / "out", epochs=9, learning_rate=1e-30, early_stopping_patience=2)
    write_config(config, tmp_path / "run.yaml")
    out, err = finish(start(tmp_path / "run.yaml", "--distributed"))
    assert out.count("stopped early after epoch 3 of 9: no AP above ") == 1
    assert err == ""
    assert not (tmp_path / "out" / "dino_detector_epoch_4.pth").exists()


def test_ctrl_c_stops_all_processes_after_the_same_step(
    start: Start, tmp_path: Path, settings: Callable[..., Config]
) -> None:
    config, last = tmp_path / "run.yaml", tmp_path / "out" / "dino_detector_last.pth"
    write_config(settings(tmp_path / "out", epochs=500, val_frequency=500, log_frequency=1), config)
    process = start(config, "--distributed", start_new_session=True)
    assert any(" 2/500 " in line for line in process.stdout), "the files of the first epoch are there"
    os.killpg(process.pid, signal.SIGINT)  # to every process, as from a terminal
    _, err = finish(process, code=130)
    assert err == f"stopped; resume with the same settings and --checkpoint {last}\n"
    finished = finished_epochs(torch.load(last, weights_only=True))
    out, _ = finish(start(config, "--distributed", "--checkpoint", last, "--epochs", finished + 1))
    (line,) = (line for line in out.splitlines() if line.startswith("epoch"))
    assert f"{finished + 1}/{finished + 1} " in line


@pytest.mark.parametrize("main_process", [True, False])
def test_a_killed_process_ends_the_others_with_one_line(
    main_process: bool, start: Start, tmp_path: Path, settings: Callable[..., Config]
) -> None:
    """The operating system kills a process that takes too much memory."""
    write_config(settings(tmp_path / "out", val_frequency=3), tmp_path / "run.yaml")
    (tmp_path / "command.py").write_text(
        "import os, signal, sys\n"
        "from dino_detector.train import main\n"
        "from dino_detector.training.run_files import RunFiles\n"
        "def die(files, trainer, module):\n"
        f"    if trainer.current_epoch == 1 and trainer.is_global_zero is {main_process}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "RunFiles.on_train_epoch_start = die\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = start(tmp_path / "run.yaml", "--distributed", program=(tmp_path / "command.py",))
    _, err = finish(process, code=-signal.SIGKILL if main_process else 2)
    last = tmp_path / "out" / "dino_detector_last.pth"
    assert err == f"error: another process of the run ended (out of memory?); resume with --checkpoint {last}\n"
