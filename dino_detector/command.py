"""How a command of the toolkit ends, and what it says on the way."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator

from dino_detector.errors import InputError, SharedInputError, StoppedByUser
from dino_detector.files import paused_collection

INPUT_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""exit codes; the last two are a shell's for Ctrl-C, and for a reader that has gone"""


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code, 0 where it returns None.

    An `InputError` is one line on stderr and code 2, Ctrl-C and `StoppedByUser` one line and code 130. Anything else is
    a bug of ours and keeps its traceback. Of several processes the main one tells of an interruption and of a
    `SharedInputError`, and the others end well, since Lightning kills all of them at once where one does not.
    """
    try:
        return command() or 0
    except InputError as error:
        if isinstance(error, SharedInputError) and not is_main_process():
            return 0
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return INPUT_ERROR
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go, and Python would complain of it when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except StoppedByUser as stop:
        return _report_interruption(str(stop))
    except KeyboardInterrupt:
        return _report_interruption()
    except SystemExit as stop:
        # Lightning turns Ctrl-C into sys.exit(1) once its trainer runs.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return _report_interruption()
        raise


def is_main_process() -> bool:
    """False in the processes that a distributed run has beside the first, which are not to say or write anything."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _report_interruption(message: str = "interrupted") -> int:
    if not is_main_process():
        return 0
    print(message, file=sys.stderr)
    return INTERRUPTED


@contextlib.contextmanager
def importing_libraries() -> Iterator[None]:
    """Import without garbage collection, a seventh of the time, and let no later one look at what stays anyway."""
    are_there = "torch" in sys.modules  # in a process that has run something, what is garbage would stay too
    with paused_collection():
        yield
    if not are_there:
        gc.freeze()


class ProgressSafeHandler(logging.Handler):
    """Writes messages to stdout, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message as it is, with its level before it from warnings on."""
        from tqdm import tqdm

        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more, as after `| head`; a run goes on
            tqdm.write(level + self.format(record), file=sys.stdout)


def configure_logging() -> None:
    """Show what this package logs, and quieten the libraries below it: their hints are about code, not about data.

    To be called before they are imported.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[ProgressSafeHandler()])
    logging.getLogger("dino_detector").setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # Lightning sets the level of its topmost loggers when it is imported, so those below are set here.
    for library in ("lightning.pytorch.trainer", "lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it tells of each retry
    warnings.filterwarnings("ignore", module="lightning")
