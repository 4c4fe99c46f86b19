"""The files that an analysis writes: how they are called, what they show, and the charts among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dino_detector.analysis.charts import class_chart, count_chart, metrics_chart, save_chart, score_chart
from dino_detector.analysis.evaluation_charts import calibration_chart, confusion_chart, curves_chart, mistakes_chart
from dino_detector.structures.categories import Categories
from dino_detector.validate import CocoMetrics

REPORT = "report.html"
PICTURES = "pictures"
OF_METRICS = {
    "coco": "the twelve COCO numbers",
    "ap_per_class": "AP of each class",
    "curves": "precision over recall for each IoU",
    "mistakes": "AP50 that each kind of mistake costs",
    "confusion": "which class is taken for which",
    "calibration": "how often a detection of which score is correct",
}
OF_RESULTS = {
    "scores": "how many detections have which score",
    "class_counts": "detections of each class with a score of at least {threshold:g}",
}


def names_of(numbers: Path | None, results: Path | None) -> list[str]:
    """Names of all that is written for a metrics file and a file of detections, whose names they begin with."""
    names = [REPORT]
    if numbers is not None:
        names += [f"{numbers.stem}_{kind}.png" for kind in OF_METRICS]
    if results is not None:
        names += [f"{results.stem}_{kind}.png" for kind in OF_RESULTS]
        names.append(f"{results.stem}_{PICTURES}")
    return names


def save_metrics_charts(metrics: CocoMetrics, payload: dict[str, Any], folder: Path, source: Path) -> dict[Path, str]:
    """Write the charts of an evaluation: of its metrics, and of what else its payload has; returns what each shows."""
    names = [row["name"] for row in payload["classes"]]
    charts = {"coco": metrics_chart(metrics)}
    if metrics.per_class:
        charts["ap_per_class"] = class_chart(metrics)
    if payload["curves"] is not None:
        charts["curves"] = curves_chart(payload["curves"], AP=payload["metrics"]["AP"])
    if payload["errors"] is not None:
        charts["mistakes"] = mistakes_chart(payload["errors"])
    if payload["confusion"] is not None:
        charts["confusion"] = confusion_chart(payload["confusion"], names)
    if payload["calibration"] is not None:
        charts["calibration"] = calibration_chart(payload["calibration"])
    return _save(charts, OF_METRICS, folder, source)


def save_results_charts(
    results: Sequence[dict[str, Any]], classes: Categories, folder: Path, source: Path, *, threshold: float
) -> dict[Path, str]:
    """Write the charts of detections in COCO's results format; returns what each shows."""
    charts = {}
    if results:
        charts["scores"] = score_chart([row["score"] for row in results], threshold=threshold)
    counts = Counter(row["category_id"] for row in results if row["score"] >= threshold)
    if counts:
        named = [(name, counts[number]) for number, name in zip(classes.ids, classes.shown, strict=True)]
        charts["class_counts"] = count_chart(named, threshold=threshold)
    meanings = {kind: meaning.format(threshold=threshold) for kind, meaning in OF_RESULTS.items()}
    return _save(charts, meanings, folder, source)


def _save(charts: dict[str, Figure], meanings: dict[str, str], folder: Path, source: Path) -> dict[Path, str]:
    written = {}
    for kind, figure in charts.items():
        path = folder / f"{source.stem}_{kind}.png"
        save_chart(figure, path)
        written[path] = meanings[kind]
    return written
