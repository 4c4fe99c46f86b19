"""Error messages for runs that end early: the cause, the remedy and how to resume."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Trainer

from dino_detector.config import Config
from dino_detector.errors import InputError, SharedInputError
from dino_detector.storage.files import WriteError, machine_error
from dino_detector.training.memory import Step, flags_of, is_out_of_memory, smaller_steps
from dino_detector.training.run_files import LAST

PEER_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL", "Socket")
"""words in the errors of torch.distributed about a process that is gone"""


@contextmanager
def explained(trainer: Trainer, config: Config) -> Iterator[None]:
    """Turn an error that ends training into an `InputError` with the cause, the remedy and how to resume.

    The causes: training diverged, a file is not writable, memory or another limit of the system ran out, or a data
    worker or another process of the run died. All other errors pass unchanged.
    """
    parent = os.getppid()
    try:
        with _quiet_threads() as thread_errors:
            yield
    except FloatingPointError as error:
        rate = "debug_lr" if config.subset.debug else "learning_rate"
        lower = f"lower --{rate} {config.training.learning_rate:g}"
        precise = "" if trainer.precision.startswith("32") else ", or give --precision 32"
        raise InputError(f"{error} after {trainer.global_step} steps; {lower}{precise}") from error
    except WriteError as error:
        raise InputError(f"{error}{_resume(config)}") from error
    except OSError as error:
        log_dir = config.logging.log_dir if error in thread_errors else None
        reason = machine_error(error, error.filename or log_dir or config.training.output_dir)
        if reason is None:
            raise
        raise InputError(f"{reason}{_resume(config)}") from error
    except (RuntimeError, MemoryError) as error:
        text = " ".join(str(error).split())
        if is_out_of_memory(error):
            step = Step(config.training.batch_size, config.data.image_size, 0)
            smaller = next(smaller_steps(step, trainer.lightning_module.detector.backbone.patch_size), None)
            remedy = "choose a smaller --dino_model" if smaller is None else f"try {flags_of(smaller, config)}"
            raise InputError(
                f"out of memory after {trainer.global_step} steps, although the largest step fitted: another program "
                f"uses the memory; free it, or {remedy}"
            ) from error
        if "DataLoader worker (pid" in text:  # torch says so of a killed worker alone
            lack, workers = "memory, or of shared memory", config.data.num_workers
            if "Bus error" in text:
                lack = "shared memory"
            remedy = f"lower --num_workers {workers} to {workers // 2} ({text[:120]}){_resume(config)}"
            raise InputError(f"a data worker was killed, probably for lack of {lack}; {remedy}") from error
        if trainer.world_size > 1 and any(sign in text for sign in PEER_GONE):
            kind = SharedInputError if os.getppid() == parent else InputError  # a dead main process reports nothing
            raise kind(f"another process of the run ended (out of memory?){_resume(config)}") from error
        raise


def _resume(config: Config) -> str:
    """Return how to resume the run; empty if it has no checkpoint."""
    last = config.training.output_dir / LAST
    return f"; resume with --checkpoint {last}" if last.exists() else ""


@contextmanager
def _quiet_threads() -> Iterator[list[BaseException | None]]:
    """Collect the exceptions that end threads, and print no traceback of an `OSError`.

    TensorBoard writes in a thread; the next logged value raises its exception again in the main thread.
    """
    errors: list[BaseException | None] = []
    before = threading.excepthook

    def collect(end: threading.ExceptHookArgs) -> None:
        errors.append(end.exc_value)
        if not isinstance(end.exc_value, OSError):
            before(end)

    threading.excepthook = collect
    try:
        yield errors
    finally:
        threading.excepthook = before
