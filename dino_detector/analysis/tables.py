"""Metrics, and comparisons of them, as plain text for the terminal."""

from __future__ import annotations

from functools import partial
from typing import Any

from dino_detector.analysis.wording import comparison_verdict, flipped_captions
from dino_detector.config import MAX_DETECTIONS
from dino_detector.plain_text import plain, table
from dino_detector.structures.metrics import PRECISION, CocoMetrics
from dino_detector.structures.metrics import number_text as number_text

OVERFITTED = 0.9
"""AP50 on its training images that shows that a model can overfit"""
LONGEST_NAME = 32
"""columns of a class name; longer names are cut"""
MOST_CHANGED = 5
"""number of classes with the largest gains, and with the largest losses, in a comparison"""
_aligned = partial(table, least=(9, 6))  # these widths align most tables with each other


def metrics_table(metrics: CocoMetrics) -> str:
    """Return the twelve COCO numbers and a row for each class; "-" without such ground truth.

    Lines have no trailing spaces and the text no final newline. Numbers are fractions, 0..1.
    """
    numbers = {name: number_text(value) for name, value in metrics.numbers.items()}
    named = zip(metrics.class_names, metrics.per_class, strict=True)
    classes = [
        [plain(name, LONGEST_NAME), number_text(row.AP), number_text(row.AP50), f"{row.boxes:,}"]
        for name, row in sorted(named, key=lambda pair: pair[1].category_id)
    ]
    boxes = sum(row.boxes for row in metrics.per_class)
    total = ["all", number_text(metrics.AP), number_text(metrics.AP50), f"{boxes:,}"]
    recall = {name: number for name, number in numbers.items() if name not in PRECISION}
    limit = metrics.max_detections
    counting = "" if limit == MAX_DETECTIONS else f"; up to {limit:,} of an image and class count, and not COCO's 100"
    blocks = [
        _aligned([["", *PRECISION], ["precision", *(numbers[name] for name in PRECISION)]]),
        _aligned([["", *recall], ["recall", *recall.values()]]),
        _aligned([["class", "AP", "AP50", "boxes"], *classes, total], rules=(1, len(classes) + 1)),
        [f"{metrics.num_images:,} images, {metrics.num_detections:,} detections{counting}"],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def comparison_table(comparison: dict[str, Any]) -> str:
    """Return the changes of AP and AR, the classes that changed most, and how many images became better or worse.

    Args:
        comparison: from a report's payload.
    """
    numbers = comparison["metrics"]
    rows = [[name, *_change(entry["baseline"], entry["value"])] for name, entry in numbers.items()]
    blocks = [_aligned([["", "before", "now", "change"], *rows]), [comparison_verdict(comparison)]]
    for title, sign in (("gained", 1), ("lost", -1)):
        chosen = [row for row in comparison["classes"] if sign * (row["change"] or 0) > 0]
        chosen.sort(key=lambda row: -abs(row["change"]))
        rows = [[plain(row["name"], LONGEST_NAME), *_change(row["baseline"], row["AP"])] for row in chosen]
        if rows:
            head = f"{title}: {len(rows):,} of {len(comparison['classes']):,}"
            blocks.append(_aligned([[head, "before", "now", "AP"], *rows[:MOST_CHANGED]]))
    if comparison["flipped"] is not None:
        blocks.append(list(flipped_captions(comparison["flipped"])))
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _change(before: float | None, now: float | None) -> list[str]:
    known = before is not None and now is not None
    return [number_text(before), number_text(now), f"{now - before:+.3f}" if known else "-"]


def overfitting_verdict(metrics: CocoMetrics) -> str:
    """Return whether a debug run, evaluated on its training images, shows that the model can overfit."""
    numbers = f"AP50 {number_text(metrics.AP50)} on the {metrics.num_images} images that it trained on"
    if metrics.AP50 >= OVERFITTED:
        return f"The model can overfit: {numbers}. Data, model and losses work together."
    return (
        f"The model has not overfitted: {numbers}, and {OVERFITTED} was wanted. If AP50 was still rising, give more "
        "--epochs; if not, look at the boxes (--log_images) and try another --debug_lr."
    )
