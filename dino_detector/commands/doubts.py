"""The command ``doubts``: labels that are probably wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dino_detector.commands.frame import command
from dino_detector.config.labelling import DoubtSettings
from dino_detector.plain_text import counted, percent, plain
from dino_detector.storage.files import write_whole
from dino_detector.storage.output_folder import locked, make_room

if TYPE_CHECKING:
    from dino_detector.labelling.doubts import Doubt, Doubts
    from dino_detector.labelling.page import Card

LIST, PAGE = "doubts.json", "doubts.html"
PRINTED = 10
"""doubts that the command prints"""


@command(DoubtSettings, usage="DATA --checkpoint PATH")
def main(settings: DoubtSettings) -> None:
    """Find labels that are probably wrong: of another class, loose, double or missing.

    Detectors judge the labels of images that they did not train on. The command writes all labels, the most doubtful
    first, to doubts.json, and the first of them with pictures to doubts.html. It changes no label.
    """
    found = doubts(settings)
    for row in found.rows[:PRINTED]:
        print(f"{percent(row.doubt):>7}  {row.kind:8} {plain(row.file_name)}: {sentence(row)}")
    tenth = Counter(row.kind for row in found.rows[: round(found.labels / 10)])
    kinds = ", ".join(f"{count} {kind}" for kind, count in tenth.most_common())
    print(f"The first tenth of {counted(found.labels, 'label')}: {kinds}")
    print(f"All doubts are in {settings.output_dir / LIST}; pictures are in {settings.output_dir / PAGE}")


def doubts(settings: DoubtSettings) -> Doubts:
    """Rank the labels, write the list and the page, and return the list."""
    from dino_detector.models.checkpoint import require_checkpoint

    require_checkpoint(settings.checkpoint)
    with locked(settings.output_dir, "doubts"):
        from dino_detector.labelling.doubts import WORK, find_doubts

        for left in settings.output_dir.glob(f"{WORK}*"):  # of a killed call
            shutil.rmtree(left, ignore_errors=True)
        found = find_doubts(settings)
        make_room(settings.output_dir, [LIST, PAGE])
        write_whole(settings.output_dir / LIST, json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n")
        _write_page(settings.output_dir / PAGE, found, settings)
    return found


def sentence(row: Doubt) -> str:
    """Return a doubt in words."""
    seen = "" if row.suggested_class is None else f"{plain(row.suggested_class)} with score {row.score:.2f}"
    label = "" if row.class_name is None else f"{plain(row.class_name)} (label {row.annotation_id})"
    match row.kind:
        case "missing":
            return f"no label, detected as {seen}"
        case "double":
            return f"{label} repeats label {row.twin_id}" if row.twin_id else f"{label} repeats another label"
        case "class":
            return f"{label}, detected as {seen}" if seen else f"{label}, not detected"
        case _:
            return f"{label} has another box than the detection, {seen}" if seen else f"{label}, not detected"


def _write_page(path: Path, found: Doubts, settings: DoubtSettings) -> None:
    from dino_detector.labelling.page import write_page

    rows = found.rows[: settings.shown]
    write_page(
        path,
        title=f"Doubtful labels of {settings.data.name or settings.data}",
        lead=[
            f"The {counted(len(rows), 'most doubtful label')} of {found.labels:,} labels of "
            f"{counted(found.images, 'image')}, the most doubtful first. {counted(settings.folds, 'detector')} judged "
            "images that they did not train on.",
            "The label is orange. The detection, or the other label of a double, is blue. The doubt is the probability "
            "of a mistake if one label in 20 has one.",
        ],
        filters={
            "kind": sorted({row.kind for row in rows}),
            "class": sorted({name for row in rows for name in (row.class_name, row.suggested_class) if name}),
        },
        cards=[_card(row, found.folder) for row in rows],
    )


def _card(row: Doubt, folder: Path) -> Card:
    from dino_detector.labelling.page import Card, crop_with_boxes

    names = dict.fromkeys(name for name in (row.class_name, row.suggested_class) if name)
    label = "" if row.annotation_id is None else f", label {row.annotation_id}"
    return Card(
        title=f"{row.kind} · {percent(row.doubt)}",
        lines=[sentence(row)],
        caption=f"{row.file_name} (image {row.image_id} of {row.split}{label})",
        filters={"kind": row.kind, "class": "\t".join(names)},
        picture=crop_with_boxes(folder / row.file_name, label=row.bbox, found=row.suggested_bbox or row.twin_bbox),
    )
