"""Convert BCCD to COCO format, for benchmarks and examples.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python -m benchmarks.accuracy.bccd BCCD_Dataset bccd

BCCD has photographs of blood cells with Pascal VOC annotations. Its authors defined the splits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import supervision

from benchmarks.common.command_line import command_parser
from dino_detector.commands.frame import run_command
from dino_detector.errors import InputError

SPLITS = ("train", "val", "test")


def convert(source: Path, target: Path) -> dict[str, int]:
    """Write ``SPLIT/`` and ``annotations/instances_SPLIT.json`` of each split, and return their image counts.

    Args:
        source: clone of BCCD's repository.
        target: folder to write.

    Raises:
        InputError: ``source`` is no clone of BCCD's repository.
    """
    root = source / "BCCD"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        if not (root / folder).is_dir():
            raise InputError(f"{root / folder}: no such folder; give a clone of github.com/Shenggan/BCCD_Dataset")
    everything = supervision.DetectionDataset.from_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    counts = {}
    for split in SPLITS:
        names = set((root / "ImageSets" / "Main" / f"{split}.txt").read_text(encoding="utf-8").split())
        paths = sorted(path for path in everything.image_paths if Path(path).stem in names)
        part = supervision.DetectionDataset(
            everything.classes, paths, {path: everything.annotations[path] for path in paths}
        )
        part.as_coco(str(target / split), str(target / "annotations" / f"instances_{split}.json"))
        counts[split] = len(paths)
    return counts


def main() -> None:
    """Convert the data set."""
    parser = command_parser("benchmarks.accuracy.bccd", __doc__)
    parser.add_argument("source", type=Path, help="clone of BCCD's repository")
    parser.add_argument("target", type=Path, help="folder to write")
    options = parser.parse_args()
    counts = convert(options.source, options.target)
    print(f"{options.target}: " + ", ".join(f"{count} images in {split}" for split, count in counts.items()))


if __name__ == "__main__":
    sys.exit(run_command(main))
