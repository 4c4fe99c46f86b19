"""The error that a user can mend, and the stop that a user asked for."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class InputError(ValueError):
    """Something in the user's hands is wrong: a file, a flag, a setting, a checkpoint.

    The message is one line that names the file, the id and the remedy. Commands print it and exit with
    code 2; every other exception is a bug of ours and keeps its traceback.
    """


class SharedInputError(InputError):
    """An `InputError` that every process of a distributed run raises after the same step; the main one reports it."""


class StoppedByUser(Exception):
    """The user stopped a run. The message is one line that says where its state is and how to resume it.

    Args:
        message: the line.
        number: the signal that stopped the run.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class Terminated(KeyboardInterrupt):
    """SIGTERM, which `timeout`, containers and clusters send; it unwinds the program as Ctrl-C does."""


def nearest(wanted: str, known: Iterable[str]) -> str:
    """``"; did you mean X?"`` for the known name closest to ``wanted``, or an empty string."""
    close = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
