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
from typing import NoReturn

from dino_detector.commands.arguments import parse_settings
from dino_detector.errors import InputError, SharedInputError, StoppedByUser, Terminated
from dino_detector.plain_text import printable
from dino_detector.storage.files import machine_error
from dino_detector.terminal import styled

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "Storage size calculation overflowed")
"""words in the errors of torch about memory; the command line does not import torch"""


def command(
    *groups: type, usage: str = "", shown: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., int]]:
    """Turn a function of settings into the ``main`` of a command; its docstring is the description in the help.

    ``main(argv, prog=...)`` returns the exit code. ``argv`` is the command line without the command, by default the
    arguments of the process, and ``prog`` is the command as the user types it. For the settings see `parse_settings`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., int]:
        def main(argv: Sequence[str] | None = None, *, prog: str = "dino-detector") -> int:
            words = sys.argv[1:] if argv is None else argv
            texts = {"prog": prog, "description": function.__doc__, "usage": usage}
            configure_logging()
            return run_command(lambda: function(*parse_settings(groups, words, shown=shown, **texts)))

        return main

    return decorate


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code, 0 if it returns None.

    An `InputError`, or a file that can't be read or written, prints one line on stderr and gives code 2. An
    interruption prints one line and gives the code of a shell: 130 for Ctrl-C, 143 for SIGTERM. Any other exception is
    a bug of ours and keeps its traceback. In a distributed run only the main process reports an interruption or a
    `SharedInputError`. The other processes return 0, because Lightning kills all processes after the first error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of classes and files can hold any character
    in_main_thread = threading.current_thread() is threading.main_thread()  # only this thread may set handlers
    before = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except InputError as error:
        if isinstance(error, SharedInputError) and not is_main_process():
            return 0
        message = str(error)
    except BrokenPipeError:
        # Nobody reads the rest of the buffer, and Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell after SIGPIPE
    except (StoppedByUser, KeyboardInterrupt, SystemExit) as error:
        # Lightning turns Ctrl-C into sys.exit(1) once its trainer runs.
        stop = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(stop, (StoppedByUser, KeyboardInterrupt)):
            raise
        if not is_main_process():
            return 0
        print(printable(str(stop) or "interrupted"), file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    except (OSError, MemoryError, RuntimeError) as error:
        limit = limit_of_machine(error)
        if limit is None:
            raise
        message = str(limit)
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)
    print(f"{styled('error:', 'red', sys.stderr)} {printable(' '.join(message.split()))}", file=sys.stderr)
    return 2


def limit_of_machine(error: OSError | MemoryError | RuntimeError) -> InputError | None:
    """Describe in one line an error of the disk or the memory that the user can fix; None for any other error."""
    if isinstance(error, OSError):
        return machine_error(error, error.filename or "the output", done="read or written")
    if not (isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY)):
        return None
    reason = " ".join(str(error).split("\n")[0].split())[-160:] or "of this machine"
    return InputError(f"out of memory ({reason}); lower --batch_size, --image_size or --num_queries")


@contextlib.contextmanager
def picture_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar in a terminal; yield a function that takes the numbers of done and of all pictures."""
    from tqdm import tqdm

    with tqdm(unit=" pictures", disable=None, leave=False, file=sys.stderr) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def _terminate(number: int, frame: object) -> NoReturn:
    """Let SIGTERM unwind the program as Ctrl-C does, so that results are completed and temporary files removed."""
    raise Terminated


def is_main_process() -> bool:
    """Return whether this is the first process of a distributed run, the only one that prints and writes."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


class ProgressSafeHandler(logging.Handler):
    """Writes messages to stdout, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, after its level if it is a warning or an error."""
        from tqdm import tqdm

        level = f"{record.levelname.lower()}:" if record.levelno >= logging.WARNING else ""
        level = styled(level, "red" if record.levelno >= logging.ERROR else "yellow", sys.stdout)
        with contextlib.suppress(BrokenPipeError):  # nobody reads stdout, as after `| head`; the run goes on
            tqdm.write(f"{level} {printable(self.format(record))}".lstrip(), file=sys.stdout)


def configure_logging() -> None:
    """Show the log of this package, and silence the hints of libraries about code.

    Call it before the libraries are imported.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[ProgressSafeHandler()])
    logging.getLogger("dino_detector").setLevel(logging.INFO if is_main_process() else logging.ERROR)
    # Lightning sets the level of its topmost loggers when it is imported, so the loggers below them are set here.
    for library in ("lightning.pytorch.trainer", "lightning.pytorch.utilities", "lightning.fabric.utilities"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs each retry
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it logs each retry
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores is a choice
    warnings.filterwarnings("ignore", module="PIL")  # damaged metadata do not matter here
