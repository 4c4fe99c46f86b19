"""The frame around every command: settings, exit codes, one-line errors, interruptions, logging."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from dino_detector.commands.arguments import parse_settings
from dino_detector.errors import InputError, SharedInputError, StoppedByUser, Terminated
from dino_detector.plain_text import printable
from dino_detector.storage.files import OF_THE_MACHINE, RESOURCES, write_error

INPUT_ERROR = 2
"""exit code after an `InputError`"""
BROKEN_PIPE = 141
"""exit code after SIGPIPE, as a shell gives it: the reader of the output has gone"""


def command(
    *groups: type, usage: str = "", shown: Mapping[str, str] | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Turn a function of settings into the ``main`` of a command; its docstring is the description in the help.

    ``main`` takes the command line without the command, or None for the arguments of the process, and the command as
    the user types it, and returns the exit code.

    Args:
        groups: the dataclasses of the settings, see `parse_settings`.
        usage: required arguments, for the usage line.
        shown: settings to list in the help, see `parse_settings`.
    """

    def decorate(function: Callable[..., int | None]) -> Callable[..., int]:
        name = function.__module__.rpartition(".")[2]

        def main(argv: Sequence[str] | None = None, *, prog: str = f"dino-detector {name}") -> int:
            def run() -> int | None:
                words, texts = sys.argv[1:] if argv is None else argv, {"usage": usage, "description": function.__doc__}
                settings = parse_settings(groups, words, prog=prog, shown=shown, **texts)
                configure_logging()
                return function(*settings)

            return run_command(run)

        return main

    return decorate


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code, 0 where it returns None.

    An `InputError`, or a file that can't be read or written, prints one line on stderr and gives code 2. An
    interruption prints one line and gives the code of a shell: 130 for Ctrl-C, 143 for SIGTERM. Any other exception is
    a bug of ours and keeps its traceback. In a distributed run only the main process reports an interruption or a
    `SharedInputError`. The other processes return 0, because Lightning kills every process once one returns an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of classes and files can hold any character
    try:
        with _terminated_by_sigterm():
            code = command() or 0
            sys.stdout.flush()
            return code
    except InputError as error:
        if isinstance(error, SharedInputError) and not is_main_process():
            return 0
        return _report_error(str(error))
    except BrokenPipeError:
        # Nobody reads the rest of the buffer, and Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except StoppedByUser as stop:
        return _report_interruption(stop.number, str(stop))
    except KeyboardInterrupt as stop:
        return _report_interruption(signal_of(stop))
    except SystemExit as stop:
        # Lightning turns Ctrl-C into sys.exit(1) once its trainer runs.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return _report_interruption(signal_of(stop.__context__))
        raise
    except OSError as error:
        if error.errno in RESOURCES:
            return _report_error(f"{error.strerror}; {RESOURCES[error.errno]}")
        if error.errno not in OF_THE_MACHINE:
            raise
        return _report_error(str(write_error(error.filename or "the output", error)))


@contextlib.contextmanager
def _terminated_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the program as Ctrl-C does, so that results are completed and temporary files removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def signal_of(interruption: KeyboardInterrupt) -> int:
    """Return the number of the signal behind an interruption."""
    return signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT


def is_main_process() -> bool:
    """Return whether this is the first process of a distributed run, the only one that prints and writes."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _report_error(message: str) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return INPUT_ERROR


def _report_interruption(number: int, message: str = "interrupted") -> int:
    if not is_main_process():
        return 0
    print(printable(message), file=sys.stderr)
    return 128 + number


class ProgressSafeHandler(logging.Handler):
    """Writes messages to stdout, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message; a warning or an error has its level before it."""
        from tqdm import tqdm

        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more, as after `| head`; a run goes on
            tqdm.write(printable(level + self.format(record)), file=sys.stdout)


def configure_logging() -> None:
    """Show the log of this package, and silence the hints of libraries about code.

    Call it before the libraries are imported.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[ProgressSafeHandler()])
    logging.getLogger("dino_detector").setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # Lightning sets the level of its topmost loggers when it is imported, so those below are set here.
    for library in ("lightning.pytorch.trainer", "lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of each retry
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it tells of each retry
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", module="PIL")  # about metadata, which no one needs here
