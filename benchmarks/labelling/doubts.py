"""Spoil labels, rank all labels with ``doubts``, and count the spoiled ones in the first tenth of the list."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.labelling.runs import recipe
from benchmarks.labelling.spoiling import KINDS, Spoiled, iou, spoil
from dino_detector.config.labelling import DoubtSettings
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.inference.detector import build_detector
from dino_detector.labelling.doubts import Doubt, find_doubts

SHARE = 0.05
"""share of the labels that are spoiled"""
LENGTHS = (0.05, 0.1, 0.2)
"""lengths of the beginning of the list, as shares of the number of labels"""
SAME_OBJECT = 0.5
"""least IoU of a removed label and the doubt that finds it"""


def measure(source: Path, *, seed: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Return the share of the spoiled labels that the beginning of the list has, by its length, and by kind.

    The list has all labels and the missing ones. Its beginning has as many rows as a tenth of the labels, missing ones
    among them. A label of another class or a loose one is found if its row is there, a double one if the row of one of
    the two labels is there, and a removed one if a row of the kind ``missing`` has an IoU of 0.5 with it.
    """
    data = folder / f"{source.name}_{seed}"
    (data / "annotations").mkdir(parents=True, exist_ok=True)
    file = data / "annotations" / "instances_train.json"
    clean = json.loads((source / "annotations" / "instances_train.json").read_text(encoding="utf-8"))
    content, spoiled = spoil(clean, share=SHARE, seed=seed)
    file.write_text(json.dumps(content), encoding="utf-8")
    if not (data / "train").exists():
        (data / "train").symlink_to((source / "train").resolve(), target_is_directory=True)
    config = recipe(epochs=epochs)
    checkpoint = data / "settings.pth"  # the command takes the settings of a checkpoint, and not its weights
    build_detector(config, categories=CocoAnnotations.read(file).categories).save(checkpoint)
    started = time.monotonic()
    files = {"checkpoint": checkpoint, "output_dir": folder}
    found = find_doubts(DoubtSettings(data, **files, device="cpu", seed=seed, num_workers=config.data.num_workers))
    row: dict[str, Any] = {"data": source.name, "seed": seed, "labels": found.labels, "spoiled": len(spoiled)}
    row |= {"rows": len(found.rows), "seconds": round(time.monotonic() - started)}
    for length in LENGTHS:
        hits = _hits(found.rows[: round(length * found.labels)], spoiled)
        row[f"found in {length:.0%}"] = round(sum(hits.values()) / len(spoiled), 3)
        if length == 0.1:
            totals = Counter(one.kind for one in spoiled)
            row |= {kind: f"{hits[kind]}/{totals[kind]}" for kind in KINDS}
    return row


def _hits(rows: Sequence[Doubt], spoiled: Sequence[Spoiled]) -> Counter[str]:
    """Count the spoiled labels that rows find, by kind."""
    ids = {row.annotation_id for row in rows}
    missing = [row for row in rows if row.kind == "missing"]

    def is_found(one: Spoiled) -> bool:
        if one.kind == "missing":
            there = (row for row in missing if row.image_id == one.image_id)
            return any(iou(list(row.suggested_bbox), one.bbox) >= SAME_OBJECT for row in there)
        return not ids.isdisjoint(one.ids)

    return Counter(one.kind for one in spoiled if is_found(one))
