"""Writes pre-labels as Label Studio's predictions: https://labelstud.io/guide/predictions

Label Studio shows the pictures of a folder that it serves: ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`` names the folder,
and ``/data/local-files/?d=`` begins the address of a picture in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

TASKS, CONFIG = "tasks.json", "labelling_interface.xml"
PREFIX = "/data/local-files/?d="


class Task(NamedTuple):
    """A picture below the served folder, its width and height in pixels, and its boxes.

    A box is the name of its class, its score, and x, y, width and height in pixels.
    """

    name: str
    size: tuple[int, int]
    boxes: Sequence[tuple[str, float, tuple[float, ...]]]


def write_label_studio(tasks: Sequence[Task], classes: Sequence[str], folder: Path, *, model: str) -> None:
    """Write the tasks to import, and the labelling interface that a project needs.

    Args:
        tasks: pictures with boxes.
        classes: names of the classes.
        folder: folder to write to.
        model: name of the model, which Label Studio shows with its predictions.
    """
    content = [
        {
            "data": {"image": PREFIX + quote(task.name)},
            "predictions": [
                {
                    "model_version": model,
                    "score": min((score for _, score, _ in task.boxes), default=0.0),
                    "result": [_region(number, task.size, *box) for number, box in enumerate(task.boxes, start=1)],
                }
            ],
        }
        for task in tasks
    ]
    (folder / TASKS).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in classes)
    (folder / CONFIG).write_text(
        f'<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n{labels}'
        "  </RectangleLabels>\n</View>\n",
        encoding="utf-8",
    )


def _region(number: int, size: tuple[int, int], name: str, score: float, box: tuple[float, ...]) -> dict[str, Any]:
    """Return a box; Label Studio counts in per cent of the picture."""
    shares = (100 * value / side for value, side in zip(box, (*size, *size), strict=True))
    place = dict(zip(("x", "y", "width", "height"), (round(share, 6) for share in shares), strict=True))
    return {
        "id": f"box-{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "score": round(score, 6),
        "value": {**place, "rotation": 0, "rectanglelabels": [name]},
    }
