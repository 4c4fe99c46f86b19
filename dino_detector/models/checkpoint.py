"""Checkpoints: what they hold, and how they are written, read and verified.

A checkpoint is a dictionary that ``torch.load(weights_only=True)`` reads: ``dino_detector`` is the header below,
``state_dict`` the weights that trained (their moving average where one was kept), with names that begin with
``detector.``, and ``digest`` the SHA-256 of everything else but the values of tensors. A training run adds Lightning's
training state. The file is a zip archive, whose checksums cover the values of tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dino_detector.config import Config
from dino_detector.data.categories import Categories
from dino_detector.errors import InputError
from dino_detector.file_set import committed
from dino_detector.files import writing

HEADER = "dino_detector"
FORMAT = 2
WITHOUT_DIGEST = 1
"""the format of version 0.1.0"""

DIGEST = "digest"
WITHOUT_NAN = ("state_dict", "current_model_state", "optimizer_states")
"""entries of a checkpoint whose tensors must be finite: weights, their latest values beside the average, moments"""

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, RuntimeError, OSError, EOFError),
    *(ValueError, TypeError, LookupError, AttributeError, struct.error),
)
"""what the readers of zip archives and of torch raise for bytes that are no checkpoint"""


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
        """Return the header in plain Python types."""
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
            config=Config.from_flat(header["config"]),
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
    if not committed(path).is_file():
        raise InputError(f"{path}: no such checkpoint; check its path")


def read_checkpoint(path: Path) -> tuple[CheckpointHeader, dict[str, Any]]:
    """Read a checkpoint onto the CPU and verify it; returns its header and the whole dictionary.

    Raises:
        InputError: naming the file, where it is missing, damaged, changed, of another program or of another format.
    """
    path = Path(path)
    require_checkpoint(path)
    contents = _unpacked(committed(path))
    if not isinstance(contents, dict) or not isinstance(contents.get(HEADER), dict):
        raise InputError(f"{path}: not a checkpoint of dino_detector; use a file that this program wrote")
    if (stated := contents[HEADER].get("format")) not in (WITHOUT_DIGEST, FORMAT):
        raise InputError(f"{path}: written by another version of dino_detector; use that one, or train again")
    if stated == FORMAT and contents.pop(DIGEST, None) != digest_of(contents):
        raise InputError(f"{path}: changed since dino_detector wrote it (its digest differs); use an unchanged copy")
    try:
        return CheckpointHeader.from_dict(contents[HEADER]), contents
    except InputError as error:
        raise InputError(f"{path}: {error}; it was written by another version of dino_detector") from error


def write_checkpoint(contents: dict[str, Any], path: Path) -> None:
    """Write the dictionary of a checkpoint, which has a header, as a file that is complete or absent.

    Raises:
        FloatingPointError: a weight or a moment is not finite; nothing is written.
        WriteError: the file can't be written.
    """
    require_finite(contents)
    with writing(path) as file:
        torch.save(contents | {DIGEST: digest_of(contents)}, file)


def require_finite(contents: dict[str, Any]) -> None:
    """Raise `FloatingPointError` where a weight or an optimizer's moment is NaN or infinite."""
    if not all_finite(_tensors([contents[name] for name in WITHOUT_NAN if name in contents])):
        raise FloatingPointError("the weights are not finite: training diverged")


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no value of any tensor is NaN or infinite."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return bool(nn.utils.get_total_norm(floating, norm_type=math.inf).isfinite()) if floating else True


def digest_of(contents: dict[str, Any]) -> str:
    """Return the SHA-256 of all that a checkpoint holds but the values of its tensors, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(_outline(contents)).encode()).hexdigest()


def _outline(value: Any) -> Any:
    """A value as JSON: tensors by type and shape, mappings with their keys in order, all else as Python writes it."""
    if isinstance(value, Tensor):
        return ["tensor", str(value.dtype), list(value.shape)]
    if isinstance(value, dict):
        return ["mapping", [[repr(key), _outline(item)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_outline(item) for item in value]]
    return repr(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested mappings and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _unpacked(path: Path) -> Any:
    """What torch reads from a file whose checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"{damaged} does not have its checksum: the file is damaged"
    except DAMAGED as error:
        text = str(error).strip()
        reason = text.splitlines()[0][:120] if text else type(error).__name__
        if isinstance(error, zipfile.BadZipFile):
            reason = "it is damaged or cut short, or torch did not write it"
        if isinstance(error, (pickle.UnpicklingError, IndexError)):  # torch's advice is to load it without safety
            reason = "torch did not write it, or it holds more than weights and plain values"
        raise InputError(f"{path}: not a readable checkpoint ({reason}); use another file") from error
    raise InputError(f"{path}: not a readable checkpoint ({reason}); use another copy")
