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


OTHER_NAMES = {
    **dict.fromkeys(("weights", "model", "pretrained", "resume", "ckpt", "pretrain_weights"), ("checkpoint",)),
    **dict.fromkeys(("conf", "conf_thres", "score_threshold"), ("threshold", "confidence_threshold")),
    **dict.fromkeys(("imgsz", "img", "img_size", "resolution"), ("image_size",)),
    **dict.fromkeys(("batch", "bs", "total_batch_size"), ("batch_size",)),
    **dict.fromkeys(("lr", "lr0"), ("learning_rate",)),
    **dict.fromkeys(("project", "out", "save_dir"), ("output_dir",)),
    **dict.fromkeys(("workers", "dataloader_workers"), ("num_workers",)),
    **dict.fromkeys(("dataset_dir", "dataset", "data_path"), ("data", "train_images")),
    **dict.fromkeys(("val", "validate", "test", "eval"), ("evaluate",)),
    **dict.fromkeys(("detect", "infer", "inference", "track"), ("predict",)),
    **{"name": ("experiment_name",), "max_det": ("max_detections",), "patience": ("early_stopping_patience",)},
    **{"check": ("data",), "report": ("analyze",)},
}
"""names of flags and commands in other toolkits, such as Ultralytics and RF-DETR, and our names in their order"""


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` with the known name closest to ``wanted``, or an empty string.

    A name of another toolkit gives the name that has its meaning here.
    """
    known = list(known)
    dashes = "--" if wanted.startswith("--") else ""
    plain = wanted.removeprefix("--").replace("-", "_")
    ours = [f"{dashes}{name}" for name in OTHER_NAMES.get(plain, ())]
    if meant := next((name for name in ours if name in known), None):
        return f"; did you mean {meant}?"
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
