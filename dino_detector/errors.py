"""Errors that the user can fix, and stops that the user asked for."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class InputError(ValueError):
    """A file, a flag, a setting or a checkpoint is wrong, and the user can fix it.

    The message is one line that names the file, the id and the remedy. Commands print the message and exit with
    code 2. Stops and errors of the machine, such as a full disk, also end in one line. Any other exception is a bug
    and keeps its traceback.
    """


class SharedInputError(InputError):
    """An `InputError` that every process of a distributed run raises after the same step; only the main one prints."""


class SettingError(InputError):
    """A setting has a wrong value; the reason follows its name, such as ``"must be at least 1, not 0"``."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name

    def __str__(self) -> str:
        return " ".join(self.args)


class StoppedByUser(Exception):
    """A signal stopped a run; the message is one line that says where the results are and how to resume."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `timeout`, containers and clusters send; it unwinds the program as Ctrl-C does."""

    number = signal.SIGTERM


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` with the known name closest to ``wanted``, or an empty string."""
    close = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
