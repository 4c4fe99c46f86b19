"""Runs that fail: the last good checkpoint stays, and one line gives the cause and how to resume."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess

import pytest
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback

from dino_detector.commands import train as command
from dino_detector.commands.frame import run_command
from dino_detector.config.yaml_text import write_config
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import read_checkpoint
from dino_detector.storage.output_folder import locked
from dino_detector.training.fit import fit
from dino_detector.training.run_files import finished_epochs

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


class Poison(Callback):
    """Make a weight infinite, or NaN, after the last step of an epoch."""

    def __init__(self, epoch: int, value: float) -> None:
        self.epoch, self.value = epoch, value

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.is_last_batch and trainer.current_epoch == self.epoch:
            with torch.no_grad():
                next(module.detector.decoder.parameters()).view(-1)[0] = self.value


@pytest.mark.parametrize(("validates", "value"), [(True, float("nan")), (False, float("inf"))])
def test_weights_that_are_not_finite_are_never_written(validates, value, train, tmp_path):
    changes = {} if validates else {"val_images": None, "val_annotations": None}
    with pytest.raises(InputError, match=r"weights are not finite: .* after 8 steps; lower --learning_rate 0\.001"):
        train(tmp_path / "out", Poison(1, value), **changes)
    assert not list((tmp_path / "out").glob("*epoch_2*"))
    assert not (tmp_path / "out" / "dino_detector_final.pth").exists()
    _, contents = read_checkpoint(tmp_path / "out" / "dino_detector_last.pth")
    assert finished_epochs(contents) == 1
    assert all(value.isfinite().all() for value in contents["state_dict"].values())


def test_a_second_run_in_the_folder_is_refused_and_changes_nothing(settings, tmp_path, capsys):
    write_config(settings(tmp_path / "out"), tmp_path / "run.yaml")
    with locked(tmp_path / "out", "training"):
        (tmp_path / "out" / "dino_detector_best.pth").write_text("of the first run")
        before = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert command.main(["--config", str(tmp_path / "run.yaml")]) == 2
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    line = capsys.readouterr().err
    assert re.fullmatch(rf"error: {tmp_path}/out: another training writes there \(process {os.getpid()} .*\n", line)


def small_shared_memory() -> list[str]:
    """Return the command prefix that gives a command its own /dev/shm of 64 kB."""
    words = ["unshare", "-m", "bash", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "bash"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small /dev/shm")
    return words


def test_a_worker_without_shared_memory_is_named_and_nothing_waits(warm_python, settings, tmp_path):
    words = small_shared_memory()
    write_config(settings(tmp_path / "out", num_workers=1, batch_size=4), tmp_path / "run.yaml")
    run = subprocess.run(
        [*words, warm_python, "-m", "dino_detector.train", "--config", tmp_path / "run.yaml"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2, run.stderr[-2000:]
    assert re.fullmatch("error: .*shared memory.*--num_workers 0.*\n", run.stderr)


def test_sigterm_to_all_processes_of_a_run_saves_its_step(warm_python, settings, tmp_path):
    """``timeout`` and clusters send the signal to the data workers too."""
    changes = {"epochs": 1000, "val_frequency": 1000, "num_workers": 2, "batch_size": 1, "accumulate_batches": 3}
    write_config(settings(tmp_path / "out", **changes), tmp_path / "run.yaml")
    process = subprocess.Popen(
        [warm_python, "-m", "dino_detector.train", "--config", tmp_path / "run.yaml"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any(" 2/1000 " in line for line in process.stdout), "the files of the first epoch are there"
    os.killpg(process.pid, signal.SIGTERM)
    rest, errors = process.communicate()
    last = tmp_path / "out" / "dino_detector_last.pth"
    assert errors == f"stopped; resume with the same settings and --checkpoint {last}\n"
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in rest
    assert torch.load(last, weights_only=True)["global_step"] >= 3


def test_a_full_disk_ends_a_run_with_one_line_and_the_checkpoint_before(settings, tmp_path, capsys):
    """A limit on the size of files stands in for a full disk."""
    last = tmp_path / "out" / "dino_detector_last.pth"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(trainer, module):
        if trainer.current_epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (last.stat().st_size // 2, before[1]))

    config = settings(tmp_path / "out", val_frequency=3)
    try:
        assert run_command(lambda: fit(config, callbacks=[LambdaCallback(on_train_epoch_start=fill)])) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    errors = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*the disk is full.*; resume with --checkpoint {last}\n", errors)
    torch.load(last, weights_only=True)
    written = ["config.yaml", "dino_detector_last.pth", "history.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
