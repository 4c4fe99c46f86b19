"""PNG charts of metrics, detections and the parts of a report's payload, as matplotlib figures.

The colours are the palette of Okabe and Ito, which people with any colour vision can tell apart:
https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from dino_detector.analysis.fonts import font_path
from dino_detector.analysis.scores import SCORE_EDGES
from dino_detector.analysis.wording import (
    ALL_MISTAKES,
    AXES,
    BACKGROUND,
    MISTAKES,
    Payload,
    calibration_caption,
    confusion_caption,
    metric_meanings,
)
from dino_detector.plain_text import counted, plain
from dino_detector.storage.files import writing
from dino_detector.structures.metrics import PRECISION

BLUE, VERMILLION, GREEN, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#666666", "#dddddd"
MOST_BARS = 100
"""a chart of more classes shows the ends of their order"""
MOST_CURVES = 40
"""a chart of more classes shows the mean alone"""
MOST_CONFUSED = 80
"""a confusion matrix of more classes shows the classes with most boxes"""
WITH_NUMBERS = 25
"""largest number of rows of a confusion matrix whose cells show their counts"""
LONGEST_NAME = 28
"""columns of a class name; longer names are cut"""
SHARED = re.compile(r" \(\d{1,9}\)$")
"""the id behind a name that several classes share"""


class Bar(NamedTuple):
    """A row of a bar chart: its length in units of the axis or None, and a note to the right of the axes."""

    name: str
    length: float | None
    note: str
    color: str


def metrics_chart(payload: Payload) -> Figure:
    """Draw the twelve COCO numbers, 0..1, as bars: precision above, recall below."""
    meanings = metric_meanings(payload["max_detections"])
    rows = []
    for name, number in payload["metrics"].items():
        note = "no such ground truth" if number is None else f"{number:.3f}"
        rows.append(Bar(f"{name} ({meanings[name]})", number, note, BLUE if name in PRECISION else VERMILLION))
    images, detections = f"{payload['images']:,} images", f"{payload['detections']:,} detections"
    figure, axes = _bar_chart(rows, title=f"Average precision (AP) and recall (AR): {images}, {detections}")
    axes.axhline(len(PRECISION) - 0.5, color=GREY, linewidth=0.8)
    axes.set_xlim(0, 1)
    return figure


def class_chart(payload: Payload) -> Figure:
    """Draw the AP of each class as a bar and its AP50 as a dot, by descending AP; classes without ground truth last.

    Of more than 100 classes with ground truth, the 50 best and the 50 worst are shown. There is at least one class.
    """
    classes, mean = payload["classes"], payload["metrics"]["AP"]
    scored = sorted((row for row in classes if row["AP"] is not None), key=lambda row: -row["AP"])
    unscored = [row for row in classes if row["AP"] is None]
    title = f"AP per class, mean {mean:.3f}" if scored else "AP per class"
    shown, half = (scored + unscored)[:MOST_BARS], MOST_BARS // 2
    if len(scored) > MOST_BARS:
        shown = scored[:half] + scored[-half:]
        title += f": the {half} best and the {half} worst"
    if len(shown) < len(classes):
        title += f" of {len(classes):,} classes, {len(unscored):,} of them without ground truth"
    bars = []
    for row in shown:
        known = row["AP"] is not None
        note = f"{row['AP']:.3f}   {counted(row['boxes'], 'box', 'boxes')}" if known else "no ground truth"
        bars.append(Bar(_cut(row["name"]), row["AP"], note, BLUE))
    figure, axes = _bar_chart(bars, title=title)
    if len(scored) > MOST_BARS:
        axes.axhline(half - 0.5, color=GREY, linewidth=0.8)
    dots = [(row["AP50"], position) for position, row in enumerate(shown) if row["AP50"] is not None]
    axes.scatter(*np.reshape(dots, (-1, 2)).T, s=22, color=VERMILLION, zorder=3, clip_on=False)
    meanings = metric_meanings(payload["max_detections"])
    labels = [f"{name}, {meanings[name]}" for name in ("AP", "AP50")]
    handles = [axes.containers[0], axes.collections[0]]
    figure.legend(handles=handles, labels=labels, loc="outside lower center", ncols=2, frameon=False)
    axes.set_xlim(0, 1)
    return figure


def score_chart(scores: Sequence[float], *, threshold: float) -> Figure:
    """Draw the number of detections by score, in steps of 0.05 on a logarithmic axis, and the threshold.

    A score at the edge of two steps counts in the upper one. There is at least one score.
    """
    above = sum(score >= threshold for score in scores)
    figure, axes = _chart(8, 4.5)
    axes.hist(scores, bins=SCORE_EDGES, color=BLUE, edgecolor="white")
    axes.axvline(threshold, color=VERMILLION, linewidth=2)
    _count_axis(axes)
    axes.set(xlim=(0, 1), xlabel=AXES["score"], ylabel=AXES["detections_log"])
    axes.set_title(f"{counted(len(scores), 'detection')}, {above:,} with a score of at least {threshold:g} (line)")
    return figure


def count_chart(counts: Sequence[tuple[str, int]], *, threshold: float) -> Figure:
    """Draw the number of detections of each class, by descending number; of more than 100 classes the most frequent.

    Args:
        counts: name and number of each class, at least one; a number may be 0.
        threshold: the lowest score that is counted, for the title.
    """
    ordered = sorted(counts, key=lambda row: -row[1])
    title = f"Detections per class with a score of at least {threshold:g}"
    if len(ordered) > MOST_BARS:
        title += f": the {MOST_BARS} most frequent of {len(ordered):,} classes"
    rows = [Bar(_cut(name), count, f"{count:,}", GREEN) for name, count in ordered[:MOST_BARS]]
    figure, axes = _bar_chart(rows, title=title)
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def curves_chart(payload: Payload) -> Figure:
    """Draw precision over recall, the mean of all classes, for each IoU threshold; in grey each class at IoU 0.50."""
    curves, AP, recall = payload["curves"], payload["metrics"]["AP"], np.linspace(0, 1, 101)
    figure, axes = _chart(8, 6)
    title = "Precision over recall, mean of the classes"
    classes = [lines[0] for lines in curves["precision"] if lines is not None]
    if 1 < len(classes) <= MOST_CURVES:
        axes.plot(recall, np.transpose(classes), color="#cccccc", linewidth=0.8, label="_classes")
        title += ", each class at IoU 0.50 in grey"
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(curves["ious"])))
    for iou, line, shade in zip(curves["ious"], curves["mean"], shades, strict=True):
        axes.plot(recall, line, color=shade, linewidth=1.8, label=f"{iou:.2f}   {np.mean(line):.3f}")
    axes.legend(title="IoU    AP", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=AXES["recall"], ylabel=AXES["precision"])
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_title(f"{title}: AP {AP:.3f}", fontsize=11)
    return figure


def mistakes_chart(payload: Payload) -> Figure:
    """Draw the AP50 that each kind of mistake costs."""
    errors, rows = payload["errors"], []
    for kind in [*errors["types"], *errors["special"]]:
        cost, name = kind["cost"], ALL_MISTAKES.get(kind["key"]) or MISTAKES[kind["key"]].name
        note = "-" if cost is None else f"{cost:+.3f}"
        if cost is not None and "count" in kind:
            note += f"   {counted(kind['count'], 'time')}"
        rows.append(Bar(name, max(0.0, cost or 0.0), note, VERMILLION if "count" in kind else GREY))
    title = "" if errors["AP50"] is None else f" (AP50 is {errors['AP50']:.3f})"
    figure, axes = _bar_chart(rows, title=f"AP50 that each kind of mistake costs{title}")
    axes.axhline(len(errors["types"]) - 0.5, color=GREY, linewidth=0.8)
    axes.set_xlim(0, max(0.05, *(row.length for row in rows)) * 1.02)
    return figure


def confusion_chart(payload: Payload) -> Figure:
    """Draw counts of truth (rows) and predictions (columns), coloured by their part of the row; background is last."""
    names, counts = [row["name"] for row in payload["classes"]], np.array(payload["confusion"]["counts"])
    title = confusion_caption(payload["confusion"])
    kept = np.arange(len(names))
    if len(names) > MOST_CONFUSED:
        kept = np.sort(np.argsort(-counts[:-1].sum(axis=1), kind="stable")[:MOST_CONFUSED])
        title += f" The {MOST_CONFUSED} classes with most boxes, of {len(names):,}"
    chosen = [*kept, len(names)]
    size = len(chosen)
    counts = counts[np.ix_(chosen, chosen)]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)

    height, few = max(5.0, 0.17 * size + 3.2), size <= WITH_NUMBERS
    figure, axes = _chart(max(6.5, 0.45 * size + 3) if few else height, height, frame=True)
    picture = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for axis in ("y", "x"):
        _set_names(axes, [*(_cut(names[label]) for label in kept), BACKGROUND], axis=axis, size=9 if few else 7)
    upright = {"rotation": 90, "ha": "center"} if size > 6 else {"rotation": 30, "ha": "right"}
    for text in axes.get_xticklabels():
        text.set(**upright, rotation_mode="default" if size > 6 else "anchor")
    for row, column in np.argwhere(counts) if few else ():
        color = "white" if shares[row, column] > 0.3 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", size=8, color=color)
    edges = np.arange(size + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.axhline(size - 1.5, color=GREY, linewidth=1)
    axes.axvline(size - 1.5, color=GREY, linewidth=1)
    axes.set(xlabel=AXES["predicted"], ylabel=AXES["truth"])
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar = figure.colorbar(picture, ax=axes, ticks=np.sqrt(ticks), fraction=0.04, pad=0.02)
    bar.set_ticklabels([f"{tick:.0%}" for tick in ticks])
    bar.set_label("of the row")
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure


def calibration_chart(payload: Payload) -> Figure:
    """Draw a reliability diagram: the part of correct detections over their score, and the number of detections."""
    filled = [row for row in payload["calibration"]["bins"] if row["count"]]
    lows, precision, scores, counts = ([row[key] for row in filled] for key in ("low", "precision", "score", "count"))
    figure = Figure(figsize=(6.5, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label=AXES["calibrated"])
    bars = {"align": "edge", "width": [row["high"] - row["low"] for row in filled], "edgecolor": "white"}
    upper.bar(lows, precision, color=BLUE, alpha=0.75, label=AXES["precision"], **bars)
    upper.plot(scores, precision, color=VERMILLION, marker="o", markersize=4, linewidth=0, label="at their mean score")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel=AXES["precision"])
    upper.legend(loc="upper left", frameon=False)
    lower.bar(lows, counts, color=GREY, **bars)
    _count_axis(lower)
    lower.set(xlabel=AXES["score"], ylabel=AXES["detections"])
    figure.suptitle(calibration_caption(payload["calibration"]), fontsize=11, wrap=True)
    for axes in (upper, lower):
        axes.grid(axis="y", color=PALE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def save_chart(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, 120 pixels an inch, and return the path."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # font_path warns of it
        with writing(path, sync=False) as file:
            figure.savefig(file, format="png", dpi=120, facecolor="white")
    return path


def _chart(width: float, height: float, *, frame: bool = False) -> tuple[Figure, Axes]:
    """Return an empty chart of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(frame)
    return figure, axes


def _bar_chart(rows: Sequence[Bar], *, title: str) -> tuple[Figure, Axes]:
    """Draw horizontal bars in the order of the rows from the top, 0.24 inches each."""
    figure, axes = _chart(9, 1.4 + 0.24 * len(rows))
    lengths, colors = [row.length or 0 for row in rows], [row.color for row in rows]
    axes.barh(range(len(rows)), lengths, height=0.72, color=colors)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _set_names(axes, [row.name for row in rows])
    beside = {"xytext": (10, 0), "textcoords": "offset points", "va": "center", "size": 9}
    for position, row in enumerate(rows):
        color = GREY if row.length is None else "black"
        axes.annotate(row.note, (1, position), xycoords=axes.get_yaxis_transform(), color=color, **beside)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=11)
    return figure, axes


def _set_names(axes: Axes, names: Sequence[str], *, axis: str = "y", size: float = 9) -> None:
    """Set ticks at 0, 1, 2 ... with names of any script, shown literally."""
    along = axes.yaxis if axis == "y" else axes.xaxis
    along.set_ticks(range(len(names)), labels=names)
    along.set_tick_params(length=0)
    for text in along.get_ticklabels():
        text.set_fontproperties(FontProperties(fname=str(font_path(text.get_text())), size=size))
        text.set_parse_math(False)  # a name may hold dollar signs


def _count_axis(axes: Axes) -> None:
    """Make the y axis logarithmic; a bar of one detection has a height."""
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _cut(name: str) -> str:
    """Cut a class name to the room beside an axis, and keep its id."""
    mark = SHARED.search(name)
    end = mark[0] if mark else ""
    return plain(name.removesuffix(end), LONGEST_NAME - len(end)) + end
