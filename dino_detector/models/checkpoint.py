"""Checkpoints: what they hold, and how they are written, read and verified.

A checkpoint is a dictionary that ``torch.load(weights_only=True)`` reads. ``dino_detector`` is a `CheckpointHeader`.
``state_dict`` holds the trained weights, or their moving average where the run kept one; their names begin with
``detector.``. ``digest`` is a SHA-256 of all other entries except the values of tensors, which the checksums of the
zip archive cover. A training run adds Lightning's training state.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.storage.file_set import committed
from dino_detector.storage.files import writing
from dino_detector.structures.categories import Categories
from dino_detector.structures.nested import tensors_in

HEADER = "dino_detector"
FORMAT = 2
DIGEST = "digest"
HEADER_FIELDS = ("mean", "std", "architecture", "base_fingerprint")
"""entries of the header that a file holds as they are"""
FINITE = ("state_dict", "current_model_state", "optimizer_states")
"""entries whose tensors must be finite: averaged weights, latest weights, and the optimizer's moments"""


@dataclass(frozen=True)
class CheckpointHeader:
    """Everything that is needed to build the detector again, and to recognise its base model.

    Attributes:
        config: settings of the run.
        categories: classes that the detector was trained on.
        mean: mean of each RGB channel in the backbone's pretraining, for pixels in 0..1.
        std: standard deviation of each RGB channel, likewise.
        architecture: settings of the backbone's transformers config.
        base_fingerprint: SHA-256 of the base weights; None where the checkpoint holds all weights.
        evaluation: ``epoch``, ``AP``, ``AP50`` and ``images`` of the evaluation of these weights; None without one.
    """

    config: Config
    categories: Categories
    mean: list[float]
    std: list[float]
    architecture: dict[str, Any]
    base_fingerprint: str | None
    evaluation: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the header in plain Python types."""
        categories = {"category_ids": list(self.categories.ids), "category_names": list(self.categories.names)}
        plain = {name: getattr(self, name) for name in HEADER_FIELDS}
        measured = {"evaluation": self.evaluation}
        return {"format": FORMAT, "config": self.config.flat()} | categories | plain | measured

    @classmethod
    def from_dict(cls, header: dict[str, Any]) -> CheckpointHeader:
        """Return the header that `to_dict` described; raise `InputError` where its settings are invalid."""
        categories = Categories(tuple(header["category_ids"]), tuple(header["category_names"]))
        plain = (header[name] for name in HEADER_FIELDS)
        return cls(Config.from_flat(header["config"]), categories, *plain, header.get("evaluation"))


def require_checkpoint(path: Path) -> None:
    """Raise `InputError` where a path is a folder or does not exist."""
    if path.is_dir():
        found = next(iter(sorted(path.glob("*.pth"))), None)
        example = f" in it, such as {found}" if found else ", a file that ends in .pth"
        raise InputError(f"{path}: is a folder; give a checkpoint{example}")
    if not committed(path).is_file():
        raise InputError(f"{path}: no such checkpoint; check its path")


def read_checkpoint(path: Path) -> tuple[CheckpointHeader, dict[str, Any]]:
    """Read a checkpoint onto the CPU, verify it, and return its header and the whole dictionary.

    Raises:
        InputError: the file is missing, damaged, changed, or written by another program or an unknown version.
    """
    path = Path(path)
    require_checkpoint(path)
    contents = _unpacked(committed(path))
    if not isinstance(contents, dict) or not isinstance(contents.get(HEADER), dict):
        raise InputError(f"{path}: not a checkpoint of dino_detector; use a file that this program wrote")
    if contents[HEADER].get("format") != FORMAT:
        raise InputError(f"{path}: written by another version of dino_detector; use that one, or train again")
    if contents.pop(DIGEST, None) != digest_of(contents):
        raise InputError(f"{path}: changed since dino_detector wrote it (its digest differs); use an unchanged copy")
    try:
        return CheckpointHeader.from_dict(contents[HEADER]), contents
    except InputError as error:
        raise InputError(f"{path}: {error}; it was written by another version of dino_detector") from error
    except KeyError as error:
        raise InputError(f"{path}: its header lacks {error}; use a file that dino_detector wrote") from error


def write_checkpoint(contents: dict[str, Any], path: Path) -> None:
    """Write the dictionary of a checkpoint, which has a header, as a file that is complete or absent.

    Raises:
        FloatingPointError: a weight or a moment is not finite; nothing is written.
        WriteError: the file can't be written.
    """
    require_finite([contents[name] for name in FINITE if name in contents])
    with writing(path) as file:
        torch.save(contents | {DIGEST: digest_of(contents)}, file)


def require_finite(values: Any) -> None:
    """Raise `FloatingPointError` where a tensor in nested mappings and sequences has a NaN or an infinite value."""
    floating = [tensor for tensor in tensors_in(values) if tensor.is_floating_point() and tensor.numel()]
    if floating and not nn.utils.get_total_norm(floating, norm_type=math.inf).isfinite():
        raise FloatingPointError("the weights are not finite: training diverged")


def digest_of(contents: dict[str, Any]) -> str:
    """Return the SHA-256 of a checkpoint except the values of its tensors, in hexadecimal digits."""
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


def _unpacked(path: Path) -> Any:
    """Return the contents of a file after a check of its checksums; raise `InputError` where it can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for damaged bytes zipfile and torch raise a dozen classes
        raise InputError(f"{path}: not a readable checkpoint ({_reason(error)}); use another file") from error
    reason = f"{damaged} fails its checksum: the file is damaged"
    raise InputError(f"{path}: not a readable checkpoint ({reason}); use another copy")


def _reason(error: Exception) -> str:
    """Return in one line why torch can't read a file."""
    if isinstance(error, zipfile.BadZipFile) or "PytorchStreamReader" in str(error):
        return "it is damaged or cut short, or torch did not write it"
    if isinstance(error, (pickle.UnpicklingError, IndexError)):  # torch would advise to load it without safety
        return "torch did not write it, or it holds more than weights and plain values"
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
