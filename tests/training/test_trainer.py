"""Number of processes, their device and precision, and the address where they connect."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning import Trainer

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.models.device import resolve_precision
from dino_detector.training import trainer as trainer_module
from dino_detector.training.trainer import Machine, build_trainer, resolve_machine


def settings_with(**settings: Any) -> Config:
    return Config.from_flat({"device": "cpu", "precision": "32"} | settings)


def resolved(**settings: Any) -> Machine:
    return resolve_machine(settings_with(**settings))


def trainer_with(**settings: Any) -> Trainer:
    return build_trainer(settings_with(**settings), resolved(**settings))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve_device(name: str) -> torch.device:
        return torch.device("cuda" if name == "auto" else name)

    monkeypatch.setattr(trainer_module, "resolve_device", resolve_device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore the environment, which holds the address where processes connect."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_one_process_unless_more_are_asked_for() -> None:
    assert resolved() == Machine(torch.device("cpu"), "32", processes=1)
    assert trainer_with().world_size == 1


@pytest.mark.parametrize(
    ("device", "avx", "amx", "expected"),
    [
        ("cpu", True, False, "bf16"),
        ("cpu", False, True, "bf16"),
        ("cpu", False, False, "32"),
        ("cuda:1", False, False, "bf16"),
        ("cuda:0", True, True, "32"),
        ("mps", True, True, "32"),
    ],
)
def test_a_device_computes_in_bf16_where_it_is_fast_in_it(
    device: str, avx: bool, amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two GPUs is fast in bf16; the first GPU is the current device."""
    current = [0]

    @contextmanager
    def make_current(chosen: torch.device) -> Iterator[None]:
        current.append(chosen.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "device", make_current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] == 1)
    assert resolve_precision("auto", torch.device(device)) == expected
    assert resolve_precision("bf16", torch.device(device)) == "bf16", "an explicit precision always counts"
    assert resolve_precision("32", torch.device(device)) == "32"


def test_a_cpu_has_two_processes_unless_told_otherwise() -> None:
    assert resolved(distributed=True).processes == 2
    trainer = trainer_with(distributed=True, world_size=3)
    assert (trainer.world_size, type(trainer.strategy).__name__) == (3, "DDPStrategy")


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_has_a_process() -> None:
    assert resolved(distributed=True, device="auto").processes == 2
    assert resolved(distributed=True, device="cuda", world_size=1).processes == 1
    with pytest.raises(InputError, match="--world_size 3 needs 3 GPUs, but this machine has 2; lower it"):
        resolved(distributed=True, device="auto", world_size=3)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_that_can_not_be_shared_is_refused(device: str) -> None:
    with pytest.raises(InputError, match=f"--distributed needs --device cpu, cuda or auto, not '{device}'"):
        resolved(distributed=True, device=device)


def test_processes_meet_where_they_are_told_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"--dist_url tcp://127.0.0.1:{port}: no process can listen there"):
            resolved(distributed=True, dist_url=f"tcp://127.0.0.1:{port}")
    resolved(distributed=True, dist_url=f"tcp://127.0.0.1:{port}")
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("127.0.0.1", str(port))
    environment = trainer_with(distributed=True).strategy.cluster_environment
    assert (environment.main_address, environment.main_port) == ("127.0.0.1", port)


@pytest.mark.parametrize("url", ["127.0.0.1:1", "tcp://127.0.0.1", "udp://127.0.0.1:1", "tcp://a:b"])
def test_another_form_of_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="dist_url must be env:// or tcp://HOST:PORT"):
        resolved(distributed=True, dist_url=url)
