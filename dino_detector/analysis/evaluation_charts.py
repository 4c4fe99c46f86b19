"""Charts of what a report's payload holds beside the metrics: curves, mistakes, confusion and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dino_detector.analysis.charts import BLUE, GREY, VERMILLION, Bar, bar_chart, cut, set_names, without_frame
from dino_detector.plain_text import counted

CURVES = 40
"""a chart of more classes shows the mean alone"""
MOST_CLASSES = 80
"""of more classes a confusion matrix shows those with most boxes"""
WITH_NUMBERS = 25
"""up to this many rows and columns of a confusion matrix have their numbers written in them"""
KINDS = {
    "classification": "wrong class",
    "localisation": "poor box",
    "both": "wrong class and poor box",
    "duplicate": "duplicate",
    "background": "nothing there",
    "missed": "missed",
    "false_positives": "all false detections",
    "false_negatives": "all missed objects",
}
"""kinds of mistakes, in the words of the page"""


def curves_chart(curves: dict[str, Any], *, AP: float | None) -> Figure:
    """Precision over recall, the mean of all classes, for each IoU threshold; in grey each class at IoU 0.50."""
    recall = np.linspace(0, 1, 101)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot()
    classes = [lines[0] for lines in curves["precision"] if lines is not None]
    if 1 < len(classes) <= CURVES:
        axes.plot(recall, np.transpose(classes), color="#cccccc", linewidth=0.8, label="_classes")
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(curves["ious"])))
    if curves["mean"] is not None:
        for iou, line, shade in zip(curves["ious"], curves["mean"], shades, strict=True):
            axes.plot(recall, line, color=shade, linewidth=1.8, label=f"{iou:.2f}   {np.mean(line):.3f}")
        axes.legend(title="IoU    AP", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(color="#e5e5e5", linewidth=0.8)
    grey = ", each class at IoU 0.50 in grey" if 1 < len(classes) <= CURVES else ""
    mean = "" if AP is None else f": AP {AP:.3f}"
    axes.set_title(f"Precision over recall, mean of the classes{grey}{mean}", fontsize=11)
    without_frame(axes)
    return figure


def mistakes_chart(errors: dict[str, Any]) -> Figure:
    """What each kind of mistake costs in AP50, as in TIDE (https://arxiv.org/abs/2008.08115); mending it gives that."""
    kinds = [*errors["types"], *errors["special"]]
    rows = [
        Bar(
            KINDS[kind["key"]],
            max(0.0, kind["cost"] or 0.0),
            "-"
            if kind["cost"] is None
            else f"{kind['cost']:+.3f}" + (f"   {counted(kind['count'], 'time')}" if "count" in kind else ""),
            VERMILLION if "count" in kind else GREY,
        )
        for kind in kinds
    ]
    title = "" if errors["AP50"] is None else f" (AP50 is {errors['AP50']:.3f})"
    figure, axes = bar_chart(rows, title=f"AP50 that each kind of mistake costs{title}")
    axes.axhline(len(errors["types"]) - 0.5, color=GREY, linewidth=0.8)
    axes.set_xlim(0, max(0.05, *(row.length for row in rows)) * 1.02)
    return figure


def confusion_chart(confusion: dict[str, Any], names: Sequence[str]) -> Figure:
    """Truth in rows, what it was taken for in columns, coloured by the share of the row; last: the background."""
    counts = np.array(confusion["counts"])
    title = f"Detections with a score of at least {confusion['threshold']:.2f}, at IoU {confusion['iou']:.2f}"
    kept = np.arange(len(names))
    if len(names) > MOST_CLASSES:
        kept = np.sort(np.argsort(-counts[:-1].sum(axis=1), kind="stable")[:MOST_CLASSES])
        title += f": the {MOST_CLASSES} classes with most boxes, of {len(names):,}"
    chosen = [*kept, len(names)]
    counts = counts[np.ix_(chosen, chosen)]
    labels = [*(cut(names[label]) for label in kept), "background"]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)

    side = max(5.0, 0.17 * len(chosen) + 3.2)
    size = 9 if len(chosen) <= WITH_NUMBERS else 7
    figure = Figure(figsize=(max(6.5, 0.45 * len(chosen) + 3) if len(chosen) <= WITH_NUMBERS else side, side))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    set_names(axes, labels, axis="y", size=size)
    set_names(axes, labels, axis="x", size=size)
    for text in axes.get_xticklabels():
        text.set(rotation=90 if len(chosen) > 6 else 30, ha="center" if len(chosen) > 6 else "right")
        text.set_rotation_mode("default" if len(chosen) > 6 else "anchor")
    if len(chosen) <= WITH_NUMBERS:
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.3 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", size=8, color=color)
    edges = np.arange(len(chosen) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.axhline(len(chosen) - 1.5, color=GREY, linewidth=1)
    axes.axvline(len(chosen) - 1.5, color=GREY, linewidth=1)
    axes.set(xlabel="detected as", ylabel="ground truth")
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar = figure.colorbar(picture, ax=axes, ticks=np.sqrt(ticks), fraction=0.04, pad=0.02)
    bar.set_ticklabels([f"{tick:.0%}" for tick in ticks])
    bar.set_label("of the row")
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def calibration_chart(calibration: dict[str, Any]) -> Figure:
    """Share of correct detections over their score (above), and how many there are (below)."""
    bins = calibration["bins"]
    filled = [row for row in bins if row["count"]]
    figure = Figure(figsize=(6.5, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="as good as the score says")
    places = {"align": "edge", "width": [row["high"] - row["low"] for row in filled], "edgecolor": "white"}
    lows = [row["low"] for row in filled]
    upper.bar(lows, [row["precision"] for row in filled], color=BLUE, alpha=0.75, label="correct detections", **places)
    upper.plot(
        [row["score"] for row in filled],
        [row["precision"] for row in filled],
        **{"color": VERMILLION, "marker": "o", "markersize": 4, "linewidth": 0, "label": "at their mean score"},
    )
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="correct at IoU 0.50")
    upper.legend(loc="upper left", frameon=False)
    lower.bar(lows, [row["count"] for row in filled], color=GREY, **places)
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.5)
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.set(xlabel="score", ylabel="detections")
    error = calibration["error"]
    mean = "" if error is None else f": off by {error:.3f} on average"
    figure.suptitle(f"Scores and correctness{mean}", fontsize=11)
    for axes in (upper, lower):
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        without_frame(axes)
    return figure
