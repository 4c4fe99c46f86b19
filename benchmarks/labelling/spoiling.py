"""Spoil a share of the labels of a COCO file, and say which.

The spoiled labels are in equal parts removed, of another class, shifted and scaled to an IoU of 0.3 to 0.6, and
doubled by a copy with an IoU of 0.7 to 0.95.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
from torch import tensor
from torchvision.ops import box_convert, box_iou

KINDS = ("missing", "class", "loose", "double")
IOU_OF_KIND = {"loose": (0.3, 0.6), "double": (0.7, 0.95)}


class Spoiled(NamedTuple):
    """A spoiled label.

    Attributes:
        kind: ``missing``, ``class``, ``loose`` or ``double``.
        image_id: its image.
        bbox: its box before it was spoiled.
        ids: ids of the annotations that show the mistake; none of a removed label.
    """

    kind: str
    image_id: int
    bbox: list[float]
    ids: tuple[int, ...]


def spoil(content: dict[str, Any], *, share: float, seed: int) -> tuple[dict[str, Any], list[Spoiled]]:
    """Return a copy of a COCO file with spoiled labels, and the list of them; the argument stays unchanged."""
    rng = np.random.default_rng(seed)
    content = copy.deepcopy(content)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    labels = [label for label in content["annotations"] if not label.get("iscrowd")]
    chosen = rng.permutation(len(labels))[: max(len(KINDS), round(share * len(labels)))]
    classes = [category["id"] for category in content["categories"]]
    next_id = max(label["id"] for label in labels) + 1
    removed, spoiled = set(), []
    for number, row in enumerate(chosen.tolist()):
        label, kind = labels[row], KINDS[number % len(KINDS)]
        box, ids = list(label["bbox"]), (label["id"],)
        if kind == "missing":
            removed.add(label["id"])
            ids = ()
        elif kind == "class":
            others = [category for category in classes if category != label["category_id"]]
            label["category_id"] = others[rng.integers(len(others))]
        else:
            moved = _moved(rng, box, sizes[label["image_id"]], IOU_OF_KIND[kind])
            changed = label
            if kind == "double":
                changed = copy.deepcopy(label) | {"id": next_id}
                content["annotations"].append(changed)
                ids, next_id = (label["id"], next_id), next_id + 1
            changed |= {"bbox": moved, "area": moved[2] * moved[3]}
            changed.pop("segmentation", None)
        spoiled.append(Spoiled(kind, label["image_id"], box, ids))
    content["annotations"] = [label for label in content["annotations"] if label["id"] not in removed]
    return content, spoiled


def iou(one: list[float], other: list[float]) -> float:
    """Return the IoU of two boxes of COCO: x, y, width, height."""
    first, second = (box_convert(tensor([box], dtype=float), "xywh", "xyxy") for box in (one, other))
    return float(box_iou(first, second))


def _moved(
    rng: np.random.Generator, box: list[float], size: tuple[int, int], wanted: tuple[float, float]
) -> list[float]:
    """Return a box inside the image whose IoU with ``box`` is in a range."""
    x, y, width, height = box
    while True:
        scale = np.exp(rng.uniform(-0.6, 0.6, 2))
        shift = rng.uniform(-0.6, 0.6, 2) * (width, height)
        wide, high = width * scale[0], height * scale[1]
        left, top = x + width / 2 + shift[0] - wide / 2, y + height / 2 + shift[1] - high / 2
        right, bottom = min(left + wide, size[0]), min(top + high, size[1])
        left, top = max(left, 0.0), max(top, 0.0)
        if right > left and bottom > top:
            moved = [round(float(number), 2) for number in (left, top, right - left, bottom - top)]
            if wanted[0] <= iou(box, moved) <= wanted[1]:
                return moved
