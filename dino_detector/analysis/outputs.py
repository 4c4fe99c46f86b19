"""The files of an analysis: their names, their meanings, and the charts among them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dino_detector.analysis import charts
from dino_detector.analysis.runs import Run

REPORT = "report.html"
PICTURES = "pictures"
OF_METRICS = {
    "coco": ("metrics", charts.metrics_chart, "the twelve COCO numbers"),
    "ap_per_class": ("classes", charts.class_chart, "AP of each class"),
    "curves": ("curves", charts.curves_chart, "precision over recall for each IoU"),
    "mistakes": ("errors", charts.mistakes_chart, "AP50 that each kind of mistake costs"),
    "confusion": ("confusion", charts.confusion_chart, "confusion matrix of the classes"),
    "calibration": ("calibration", charts.calibration_chart, "reliability diagram: precision by score"),
}
"""charts of an evaluation: the part of the payload that each shows, the function that draws it, and its meaning"""
OF_RESULTS = {
    "scores": "number of detections by score",
    "class_counts": "detections of each class with a score of at least {threshold:g}",
}
"""charts of detections, and their meanings"""


def names_of(numbers: Path | None, results: Path | None) -> list[str]:
    """Return the names of all files for a metrics file and a file of detections; they begin with its name."""
    names = [REPORT]
    if numbers is not None:
        names += [f"{numbers.stem}_{kind}.png" for kind in OF_METRICS]
    if results is not None:
        names += [f"{results.stem}_{kind}.png" for kind in OF_RESULTS]
        names.append(f"{results.stem}_{PICTURES}")
    return names


def save_metrics_charts(payload: charts.Payload, folder: Path, source: Path) -> dict[Path, str]:
    """Write the charts of the parts that the payload has; return the meaning of each file."""
    return {
        charts.save_chart(draw(payload), folder / f"{source.stem}_{kind}.png"): meaning
        for kind, (part, draw, meaning) in OF_METRICS.items()
        if payload[part]
    }


def save_results_charts(run: Run, folder: Path, *, threshold: float) -> dict[Path, str]:
    """Write the charts of detections; return the meaning of each file."""
    figures = {}
    if run.results:
        figures["scores"] = charts.score_chart([row["score"] for row in run.results], threshold=threshold)
    counts = Counter(row["category_id"] for row in run.results if row["score"] >= threshold)
    if counts:
        named = [(name, counts[number]) for number, name in zip(run.classes.ids, run.classes.shown, strict=True)]
        figures["class_counts"] = charts.count_chart(named, threshold=threshold)
    return {
        charts.save_chart(figure, folder / f"{run.predictions.stem}_{kind}.png"): OF_RESULTS[kind].format(
            threshold=threshold
        )
        for kind, figure in figures.items()
    }
