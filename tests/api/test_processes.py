"""The end of a command that trains beside the program: a mistake of the user, a bug, or a signal."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import dino_detector as dd
from dino_detector.api import processes
from dino_detector.config import Config

pytestmark = pytest.mark.fast
START = subprocess.Popen


def ending(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let other code run in place of the command, in the environment of the command."""

    def start(_: Any, **streams: Any) -> subprocess.Popen[str]:
        return START([sys.executable, "-c", code], **streams)

    monkeypatch.setattr(processes.subprocess, "Popen", start)


def test_a_line_of_error_is_a_mistake_of_the_user_in_colour_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code = (
        "import sys\n"
        "from dino_detector.commands.frame import run_command\n"
        "from dino_detector.errors import InputError\n"
        "def work(): raise InputError('a.json: no such file')\n"
        "sys.exit(run_command(work))"
    )
    ending(monkeypatch, code)
    with pytest.raises(dd.InputError) as caught:
        processes.train_in_processes(Config(), set())
    assert str(caught.value) == "a.json: no such file"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise KeyError('boxes')", "exit code 1; last line: KeyError: 'boxes'"),
        ("import os; print('epoch 1', flush=True); os.kill(os.getpid(), 9)", "exit code -9; last line: epoch 1"),
    ],
)
def test_a_bug_or_a_signal_is_no_mistake_of_the_user(code: str, message: str, monkeypatch: pytest.MonkeyPatch):
    ending(monkeypatch, code)
    with pytest.raises(RuntimeError, match=message):
        processes.train_in_processes(Config(), set())
