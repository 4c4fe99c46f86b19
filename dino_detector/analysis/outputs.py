"""The files of an analysis: their names, their meanings, and the charts among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dino_detector.analysis import charts
from dino_detector.structures.categories import Categories
from dino_detector.structures.metrics import CocoMetrics

REPORT = "report.html"
PICTURES = "pictures"
OF_METRICS = {
    "coco": "the twelve COCO numbers",
    "ap_per_class": "AP of each class",
    "curves": "precision over recall for each IoU",
    "mistakes": "AP50 that each kind of mistake costs",
    "confusion": "confusion matrix of the classes",
    "calibration": "part of detections that is correct, by score",
}
OF_RESULTS = {
    "scores": "number of detections by score",
    "class_counts": "detections of each class with a score of at least {threshold:g}",
}


def names_of(numbers: Path | None, results: Path | None) -> list[str]:
    """Return the names of all files for a metrics file and a file of detections; they begin with its name."""
    names = [REPORT]
    if numbers is not None:
        names += [f"{numbers.stem}_{kind}.png" for kind in OF_METRICS]
    if results is not None:
        names += [f"{results.stem}_{kind}.png" for kind in OF_RESULTS]
        names.append(f"{results.stem}_{PICTURES}")
    return names


def save_metrics_charts(metrics: CocoMetrics, payload: dict[str, Any], folder: Path, source: Path) -> dict[Path, str]:
    """Write the charts of an evaluation's metrics and payload; return the meaning of each file."""
    names, AP = [row["name"] for row in payload["classes"]], payload["metrics"]["AP"]
    drawers = {
        "curves": lambda part: charts.curves_chart(part, AP=AP),
        "errors": charts.mistakes_chart,
        "confusion": lambda part: charts.confusion_chart(part, names),
        "calibration": charts.calibration_chart,
    }
    figures = {"coco": charts.metrics_chart(metrics)}
    if metrics.per_class:
        figures["ap_per_class"] = charts.class_chart(metrics)
    for key, draw in drawers.items():
        if payload[key] is not None:
            figures["mistakes" if key == "errors" else key] = draw(payload[key])
    return _save(figures, OF_METRICS, folder, source)


def save_results_charts(
    results: Sequence[dict[str, Any]], classes: Categories, folder: Path, source: Path, *, threshold: float
) -> dict[Path, str]:
    """Write the charts of detections in COCO's results format; return the meaning of each file."""
    figures = {}
    if results:
        figures["scores"] = charts.score_chart([row["score"] for row in results], threshold=threshold)
    counts = Counter(row["category_id"] for row in results if row["score"] >= threshold)
    if counts:
        named = [(name, counts[number]) for number, name in zip(classes.ids, classes.shown, strict=True)]
        figures["class_counts"] = charts.count_chart(named, threshold=threshold)
    meanings = {kind: meaning.format(threshold=threshold) for kind, meaning in OF_RESULTS.items()}
    return _save(figures, meanings, folder, source)


def _save(figures: dict[str, Figure], meanings: dict[str, str], folder: Path, source: Path) -> dict[Path, str]:
    written = {}
    for kind, figure in figures.items():
        path = folder / f"{source.stem}_{kind}.png"
        charts.save_chart(figure, path)
        written[path] = meanings[kind]
    return written
