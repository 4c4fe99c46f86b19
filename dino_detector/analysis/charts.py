"""Charts of metrics and of detections, as matplotlib figures; `save_chart` writes them as PNG.

The colours are those of Okabe and Ito, which people of any colour vision tell apart:
https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from dino_detector.analysis.fonts import font_path
from dino_detector.plain_text import counted, plain
from dino_detector.storage.files import writing
from dino_detector.validate import ClassMetrics, CocoMetrics

BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
MOST_BARS = 100
"""a chart of more classes shows the ends of their order"""
LONGEST_NAME = 28
"""columns of a class name; longer ones are cut"""
SHARED = re.compile(r" \(\d{1,9}\)$")
"""the id behind a name that several classes share"""
PRECISION = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "small, below 32² pixels",
    "APm": "medium, 32² to 96² pixels",
    "APl": "large, above 96² pixels",
}
AREAS = {"ARs": "small", "ARm": "medium", "ARl": "large"}


class Bar(NamedTuple):
    """A row of a bar chart: ``length`` in units of the axis, None for no bar, and a note to the right of the axes."""

    name: str
    length: float | None
    note: str
    color: str


def metrics_chart(metrics: CocoMetrics) -> Figure:
    """The twelve COCO numbers, 0..1, as bars: precision above, recall below; a note where no such ground truth is."""
    rows = []
    for name, number in metrics.numbers.items():
        limit = f"{name[2:]} {'box' if name == 'AR1' else 'boxes'} per image and class"
        meaning, color = PRECISION.get(name) or AREAS.get(name, limit), BLUE if name in PRECISION else VERMILLION
        known = (None, "no such ground truth") if number == -1 else (number, f"{number:.3f}")
        rows.append(Bar(f"{name} ({meaning})", *known, color))
    images, detections = f"{metrics.num_images:,} images", f"{metrics.num_detections:,} detections"
    figure, axes = bar_chart(rows, title=f"Average precision (AP) and recall (AR): {images}, {detections}")
    axes.axhline(len(PRECISION) - 0.5, color=GREY, linewidth=0.8)
    axes.set_xlim(0, 1)
    return figure


def class_chart(metrics: CocoMetrics) -> Figure:
    """AP of each class as a bar and its AP50 as a dot, by falling AP; classes without ground truth last, with a note.

    At most 100 are shown: of more with ground truth the 50 best, a line, and the 50 worst. There is at least one class.
    """
    assert metrics.per_class, "a chart of no classes"
    names = dict(zip((row.category_id for row in metrics.per_class), metrics.class_names, strict=True))
    scored = sorted((row for row in metrics.per_class if row.AP != -1), key=lambda row: -row.AP)
    unscored = [row for row in metrics.per_class if row.AP == -1]
    title = f"AP per class, mean {metrics.AP:.3f}" if scored else "AP per class"
    shown, half = (scored + unscored)[:MOST_BARS], MOST_BARS // 2
    if len(scored) > MOST_BARS:
        shown = scored[:half] + scored[-half:]
        title += f": the {half} best and the {half} worst"
    if len(shown) < len(metrics.per_class):
        title += f" of {len(metrics.per_class):,} classes, {len(unscored):,} of them without ground truth"
    figure, axes = bar_chart([_class_bar(row, names[row.category_id]) for row in shown], title=title)
    if len(scored) > MOST_BARS:
        axes.axhline(half - 0.5, color=GREY, linewidth=0.8)
    dots = [(row.AP50, position) for position, row in enumerate(shown) if row.AP50 != -1]
    axes.scatter(
        [AP50 for AP50, _ in dots], [position for _, position in dots], s=22, color=VERMILLION, zorder=3, clip_on=False
    )
    figure.legend(
        handles=[axes.containers[0], axes.collections[0]],
        labels=["AP, mean over IoU 0.50 to 0.95", "AP50, at IoU 0.50"],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    axes.set_xlim(0, 1)
    return figure


def score_chart(scores: Sequence[float], *, threshold: float) -> Figure:
    """How many detections have which score, 0..1, in steps of 0.05 on a logarithmic axis, and where the threshold is.

    A score at the edge of two steps counts in the upper one. There is at least one score.
    """
    assert len(scores) > 0, "a chart of no scores"
    above = sum(score >= threshold for score in scores)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(scores, bins=[step / 20 for step in range(21)], color=BLUE, edgecolor="white")
    axes.axvline(threshold, color=VERMILLION, linewidth=2)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)  # a bar of one detection has a height
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("score")
    axes.set_ylabel("detections (logarithmic)")
    axes.set_title(f"{counted(len(scores), 'detection')}, {above:,} with a score of at least {threshold:g} (line)")
    without_frame(axes)
    return figure


def count_chart(counts: Sequence[tuple[str, int]], *, threshold: float) -> Figure:
    """How many detections each class has, by falling number; of more than 100 classes the most frequent are shown.

    Args:
        counts: name and number of each class, at least one; 0 is shown as well.
        threshold: the lowest score that was counted, for the title.
    """
    assert len(counts) > 0, "a chart of no classes"
    ordered = sorted(counts, key=lambda row: -row[1])
    title = f"Detections per class with a score of at least {threshold:g}"
    if len(ordered) > MOST_BARS:
        title += f": the {MOST_BARS} most frequent of {len(ordered):,} classes"
    rows = [Bar(cut(name), count, f"{count:,}", GREEN) for name, count in ordered[:MOST_BARS]]
    figure, axes = bar_chart(rows, title=title)
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def save_chart(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, 120 pixels an inch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # font_path has said so
        with writing(path, sync=False) as file:
            figure.savefig(file, format="png", dpi=120, facecolor="white")


def bar_chart(rows: Sequence[Bar], *, title: str) -> tuple[Figure, Axes]:
    """Horizontal bars in the order of the rows from the top, 0.24 inches each."""
    figure = Figure(figsize=(9, 1.4 + 0.24 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        range(len(rows)),
        [row.length or 0 for row in rows],
        height=0.72,
        color=[row.color for row in rows],
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    set_names(axes, [row.name for row in rows])
    for position, row in enumerate(rows):
        axes.annotate(
            row.note,
            (1, position),
            xycoords=axes.get_yaxis_transform(),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            size=9,
            color=GREY if row.length is None else "black",
        )
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    without_frame(axes)
    figure.suptitle(title, fontsize=11)
    return figure, axes


def set_names(axes: Axes, names: Sequence[str], *, axis: str = "y", size: float = 9) -> None:
    """Ticks at 0, 1, 2 ... with names of any script, which are taken for what they are."""
    setter = axes.set_yticks if axis == "y" else axes.set_xticks
    setter(range(len(names)), labels=names)
    axes.tick_params(axis=axis, length=0)
    for text in axes.get_yticklabels() if axis == "y" else axes.get_xticklabels():
        text.set_fontproperties(FontProperties(fname=str(font_path(text.get_text())), size=size))
        text.set_parse_math(False)  # a name may hold dollar signs


def without_frame(axes: Axes) -> None:
    """Leave the lines to the left and below."""
    axes.spines[["top", "right"]].set_visible(False)


def _class_bar(row: ClassMetrics, name: str) -> Bar:
    if row.AP == -1:
        return Bar(cut(name), None, "no ground truth", BLUE)
    return Bar(cut(name), row.AP, f"{row.AP:.3f}   {counted(row.boxes, 'box', 'boxes')}", BLUE)


def cut(name: str) -> str:
    """A name of a class as it fits beside an axis."""
    mark = SHARED.search(name)
    end = mark[0] if mark else ""
    return plain(name.removesuffix(end), LONGEST_NAME - len(end)) + end
