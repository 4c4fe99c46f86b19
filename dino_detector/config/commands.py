"""Settings of the commands that are no run.

They stand here and not beside their commands because reading their types for ``--help`` imports whatever a module
imports for its types.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path


@dataclass(frozen=True)
class PredictSettings:
    """What to detect in, with what, and where the results go."""

    image_or_folder: Path
    """a picture, or a folder whose pictures are read in the order of their names"""
    _: KW_ONLY
    checkpoint: Path
    """any checkpoint that training wrote"""
    output_dir: Path = Path("outputs/predictions")
    """folder for the pictures with boxes and predictions.json"""
    threshold: float = 0.5
    """lowest score of a box that is drawn and counted, 0 to 1; predictions.json has the best 100 of each picture"""
    batch_size: int = 8
    """pictures that run at once"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""
    dino_model: str | None = None
    """name or folder of the base model, where it is not the one the checkpoint names"""


@dataclass(frozen=True)
class DemoSettings:
    """Where the results go."""

    output_dir: Path = Path("outputs/demo")
    """folder for the data set, the checkpoints, the metrics and the pictures"""
