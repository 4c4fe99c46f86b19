"""What a checkpoint holds beside weights, and how it is read and verified.

A checkpoint is a dictionary that ``torch.load(weights_only=True)`` reads: ``dino_detector`` is the header below,
``state_dict`` the weights that trained (their moving average where one was kept), with names that begin with
``detector.``. Those that a training run writes also carry Lightning's training state.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dino_detector.config import Config
from dino_detector.data.categories import Categories
from dino_detector.errors import InputError

HEADER = "dino_detector"
FORMAT = 1

UNSTATED: dict[str, Any] = {
    "two_stage": False,
    "query_groups": 1,
    "denoising_queries": 0,
    "neck_blocks": 0,
    "classification_loss": "focal",
    "set_cost_quality": 0.0,
    "schedule": "cosine",
    "layer_decay": 1.0,
    "zoom_out_probability": 0.3,
    "crop_probability": 0.5,
}
"""Settings as they were where a checkpoint, being older than they are, does not state them."""

DAMAGED = (
    *(pickle.UnpicklingError, RuntimeError, OSError, EOFError),
    *(ValueError, TypeError, LookupError, AttributeError, struct.error),
)
"""What torch's reader raises for bytes that are no checkpoint, or one with a flipped bit."""


@dataclass(frozen=True)
class CheckpointHeader:
    """Everything that is needed to build the detector again and to know that it is the same.

    Attributes:
        config: the settings of the run.
        categories: ids and names of the data set that the detector was trained on.
        mean: of the backbone's normalisation, per channel in 0..1.
        std: likewise.
        architecture: settings of the backbone's transformers config.
        base_fingerprint: SHA-256 of the base weights, None where the checkpoint holds all weights itself.
    """

    config: Config
    categories: Categories
    mean: list[float]
    std: list[float]
    architecture: dict[str, Any]
    base_fingerprint: str | None

    def to_dict(self) -> dict[str, Any]:
        """In plain Python types."""
        return {
            "format": FORMAT,
            "config": self.config.flat(),
            "category_ids": list(self.categories.ids),
            "category_names": list(self.categories.names),
            "mean": self.mean,
            "std": self.std,
            "architecture": self.architecture,
            "base_fingerprint": self.base_fingerprint,
        }

    @classmethod
    def from_dict(cls, header: dict[str, Any]) -> CheckpointHeader:
        """Inverse of `to_dict`."""
        return cls(
            config=Config.from_flat(UNSTATED | header["config"]),
            categories=Categories(tuple(header["category_ids"]), tuple(header["category_names"])),
            mean=header["mean"],
            std=header["std"],
            architecture=header["architecture"],
            base_fingerprint=header["base_fingerprint"],
        )


def require_checkpoint(path: Path) -> None:
    """Raise `InputError` where there is no such file."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a checkpoint in it, such as {path / 'dino_detector_best.pth'}")
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; check its path")


def read_checkpoint(path: Path) -> tuple[CheckpointHeader, dict[str, Any]]:
    """Read a checkpoint onto the CPU; returns its header and the whole dictionary.

    Raises:
        InputError: naming the file, where it is missing, damaged, of another program or of a newer format.
    """
    path = Path(path)
    require_checkpoint(path)
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, (pickle.UnpicklingError, IndexError)):  # torch's advice is to load it without safety
            reason = "torch did not write it, or it holds more than weights and plain values"
        raise InputError(f"{path}: not a readable checkpoint ({reason[:120]}); use another file") from error
    if not isinstance(contents, dict) or HEADER not in contents:
        raise InputError(f"{path}: not a checkpoint of dino_detector; use a file that this program wrote")
    if contents[HEADER]["format"] > FORMAT:
        raise InputError(f"{path}: written by a newer dino_detector; upgrade this one")
    try:
        return CheckpointHeader.from_dict(contents[HEADER]), contents
    except InputError as error:
        raise InputError(f"{path}: {error}; it was written by another version of dino_detector") from error
