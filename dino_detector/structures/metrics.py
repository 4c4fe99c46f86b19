"""COCO metrics, and the JSON files that hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dino_detector.config import MAX_DETECTIONS
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, quoted
from dino_detector.storage.files import read_json, write_whole
from dino_detector.structures.categories import distinct
from dino_detector.structures.html import html_block, html_table

PRECISION = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""names of the precision metrics"""
COUNTS = ("num_images", "num_detections", "max_detections")


@dataclass(frozen=True)
class ClassMetrics:
    """Average precision of one class; -1 if the class has no ground truth."""

    category_id: int
    name: str
    AP: float
    """mean over the IoU thresholds 0.50, 0.55 .. 0.95"""
    AP50: float
    """at IoU 0.50"""
    boxes: int
    """ground truth boxes in the evaluated images, without crowds"""


@dataclass(frozen=True, repr=False)
class CocoMetrics:
    """The twelve COCO metrics, in 0..1, and the metrics of each class; -1 means that there is no such ground truth.

    AP and AR are means over the IoU thresholds 0.50, 0.55 .. 0.95. s, m and l are areas below 32², from 32² to 96² and
    above 96² square pixels. AR1 and AR10 count 1 and 10 detections per image and class; all others count
    ``max_detections``. Files and tables name AR100 by that limit, for example AR300.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: tuple[ClassMetrics, ...]
    """by ascending category id"""
    num_images: int
    """evaluated images, with or without annotations"""
    num_detections: int
    """results in the evaluated images"""
    max_detections: int = MAX_DETECTIONS
    """detections per image and class that count"""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {number_text(getattr(self, name))}" for name in ("AP", "AP50", "AP75"))
        classes = counted(len(self.per_class), "class", "classes")
        return f"CocoMetrics({shown}; {counted(self.num_images, 'image')}, {classes})"

    def _repr_html_(self) -> str:
        numbers = html_table([*self.numbers], [[number_text(value) for value in self.numbers.values()]])
        rows = [
            (name, number_text(row.AP), number_text(row.AP50), f"{row.boxes:,}")
            for name, row in zip(self.class_names, self.per_class, strict=True)
        ]
        title = f"{counted(self.num_images, 'image')}, {counted(self.num_detections, 'detection')}"
        return html_block(title, numbers, html_table(("class", "AP", "AP50", "boxes"), rows))

    @property
    def numbers(self) -> dict[str, float]:
        """Return the twelve metrics by name; the name of AR100 follows ``max_detections``."""
        names = [item.name for item in fields(self)][: -len(COUNTS) - 1]
        return {name.replace("AR100", f"AR{self.max_detections}"): getattr(self, name) for name in names}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes in ``per_class``; a name that several classes share has the id behind it."""
        return distinct([row.category_id for row in self.per_class], [row.name for row in self.per_class])

    @classmethod
    def read(cls, path: Path) -> CocoMetrics:
        """Read a file that `write` wrote, without its extra entries.

        Raises:
            InputError: the file is missing or not JSON, or a number is missing or out of range.
        """
        content = read_json(path)
        try:
            numbers = _checked(_with_plain_names(content), CocoMetrics)
            numbers["per_class"] = tuple(ClassMetrics(**_checked(row, ClassMetrics)) for row in numbers["per_class"])
        except ValueError as error:
            remedy = "give a val_metrics*.json that training or evaluation wrote"
            raise InputError(f"{path}: not metrics of this program, {error}; {remedy}") from None
        return cls(**numbers)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics in plain Python types for ``json.dump``."""
        classes = [dict(vars(metrics)) for metrics in self.per_class]
        return {**self.numbers, "per_class": classes, **{name: getattr(self, name) for name in COUNTS}}

    def write(self, path: Path, **extra: Any) -> None:
        """Write a JSON object of ``extra`` entries (epoch, seconds) and the metrics; the file is complete or absent."""
        numbers = self.to_json()
        assert not numbers.keys() & extra.keys(), f"extra entries {sorted(extra)} would replace metrics"
        write_whole(path, json.dumps({**extra, **numbers}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def number_text(value: float | None) -> str:
    """Return a number of the metrics with three decimals; "-" for None and -1."""
    return "-" if value in (None, -1) else f"{value:.3f}"


def _with_plain_names(content: Any) -> Any:
    """Rename the recall at ``max_detections`` in the content of a metrics file to AR100."""
    if not isinstance(content, dict):
        return content
    limit = content.get("max_detections", MAX_DETECTIONS)  # files of other tools may lack it
    named = {"max_detections": limit, **content}
    return named | {"AR100": content[f"AR{limit}"]} if f"AR{limit}" in content else named


def _checked(entry: Any, kind: type) -> dict[str, Any]:
    """Return the entries that are fields of a dataclass; raise `ValueError` if one is missing or invalid."""
    if not isinstance(entry, dict):
        raise ValueError(f"it has {quoted(entry)} where names and numbers belong")
    values = {item.name: entry.get(item.name) for item in fields(kind)}
    for item in fields(kind):
        value = values[item.name]
        valid = {
            "float": type(value) in (int, float) and (value == -1 or 0 <= value <= 1),
            "int": type(value) is int and (value >= 0 or item.name == "category_id"),
            "str": isinstance(value, str),
        }
        if not valid.get(item.type, isinstance(value, list)):
            raise ValueError(f'its "{item.name}" is {quoted(value) if item.name in entry else "missing"}')
    return values
