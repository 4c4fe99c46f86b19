"""What one training run is asked to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One system, one seed, one data set and one budget; paths are absolute."""

    system: str
    """name of the system, as ``--systems`` has it"""
    seed: int
    """seed of the weights, of the order of the images and of their augmentation"""
    train_images: str
    train_annotations: str
    val_images: str
    val_annotations: str
    backbone: dict[str, int]
    """settings of transformers' `Dinov2Config` for the backbone that every system trains"""
    image_size: int
    """side of the square input, in pixels; patches have 14"""
    budget: float
    """seconds of training"""
    calibration: float
    """seconds in which ours measures its pace, to plan its epochs, after a warm-up of a quarter of that"""
    evaluations: int
    """evaluations along the run, about equally far apart; the last is at its end"""
    device: str
    """cpu, cuda or cuda:1"""
    workers: int
    """processes that load images"""
    settings: dict[str, Any]
    """settings of the system, in its own words"""
    folder: str
    """where the run leaves its files"""

    @classmethod
    def read(cls, path: str | Path) -> Job:
        """The job that `write` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)
