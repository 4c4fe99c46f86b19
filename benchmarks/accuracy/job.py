"""The description of one training run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.command_line import command_parser


@dataclass(frozen=True)
class Job:
    """One system, one seed, one data set and one budget; paths are absolute."""

    system: str
    """name of the system on the command line (``--systems``)"""
    seed: int
    """seed of the initial weights, the order of the images and their augmentation"""
    train_images: str
    train_annotations: str
    val_images: str
    val_annotations: str
    backbone: dict[str, int]
    """arguments of transformers' `Dinov2Config` for the backbone that every system trains"""
    image_size: int
    """side of the square input, in pixels; a patch has 14"""
    budget: float
    """training time in seconds"""
    calibration: float
    """seconds in which our detector measures its throughput; a warm-up of a quarter of that precedes"""
    evaluations: int
    """number of evaluations, about evenly spaced; the last one ends the run"""
    device: str
    """cpu, cuda or cuda:1"""
    workers: int
    """number of data loading processes"""
    settings: dict[str, Any]
    """settings of the system, under the system's own names"""
    folder: str
    """output folder of the run"""

    @classmethod
    def read(cls, path: str | Path) -> Job:
        """Read a job from a file of `write`."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def job_of_command_line(module: str, description: str) -> Job:
    """Read the job whose file is the only argument of ``python -m MODULE``."""
    parser = command_parser(module, description)
    parser.add_argument("job", type=Path, help="JSON file with the fields of a job")
    return Job.read(parser.parse_args().job)
