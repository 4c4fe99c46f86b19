"""Training in several processes from Python: the command runs beside this program, which may be a notebook.

Lightning starts further processes by running the program again. A notebook can't be run again, and a script would do
all its other work again in each process.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Set
from pathlib import Path

from dino_detector.config import Config
from dino_detector.config.yaml_text import as_yaml
from dino_detector.errors import InputError, StoppedByUser

log = logging.getLogger(__name__)

ERROR = "error: "
"""beginning of the line with which a command ends that the user can mend"""


def train_in_processes(config: Config, given: Set[str]) -> None:
    """Train with the command; its lines go to the log. ``given`` names the settings that the user gave.

    Raises:
        InputError: the command ended with a line that begins with ``error: ``.
        RuntimeError: the command ended in another way, such as a bug, or a signal of a machine without memory.
        StoppedByUser: the user interrupted the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.yaml"
        settings.write_text(as_yaml(config, given), encoding="utf-8")
        command = [sys.executable, "-u", "-m", "dino_detector", "train", "--config", str(settings)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
        streams["env"] = os.environ | {"NO_COLOR": "1"}  # FORCE_COLOR would put escape codes before ERROR
        with subprocess.Popen(command, **streams, start_new_session=True) as process:  # Ctrl-C reaches it from here
            last = _follow(process)
    if process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise StoppedByUser(last, process.returncode - 128)
    if process.returncode and last.startswith(ERROR):
        raise InputError(last.removeprefix(ERROR))
    if process.returncode:
        raise RuntimeError(f"the processes of the run ended with exit code {process.returncode}; last line: {last}")


def _follow(process: subprocess.Popen[str]) -> str:
    """Log the lines of a process until it ends, and return the last one; pass an interruption on."""
    last = ""
    while True:
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                return last
            last = line.rstrip("\n") or last
            if not line.startswith(ERROR):
                log.info("%s", line.rstrip("\n"))
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
        except BaseException:
            process.terminate()
            raise
