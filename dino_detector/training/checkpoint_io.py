"""How the trainer reads and writes checkpoints: verified, and complete or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins import CheckpointIO

from dino_detector.models.checkpoint import read_checkpoint, write_checkpoint


class VerifiedCheckpointIO(CheckpointIO):
    """Lightning's interface to `models.checkpoint`.

    Lightning's own writer passes through the system's temporary folder, which may be small, and its reader verifies
    nothing.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; raises as `write_checkpoint`."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; raises `InputError` where it is damaged."""
        return read_checkpoint(Path(path))[1]

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)
