from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from dino_detector.analysis.charts import calibration_chart, confusion_chart, curves_chart, mistakes_chart, save_chart

IOUS = [round(0.5 + 0.05 * step, 2) for step in range(10)]


def curves(classes: int) -> dict[str, Any]:
    """Precision is (10 - t) / 10 at IoU number t up to recall 0.50 and 0 beyond; the last class has no ground truth."""
    lines = [[(10 - t) / 10] * 51 + [0.0] * 50 for t in range(10)]
    part = {"ious": IOUS, "precision": [lines] * (classes - 1) + [None], "mean": lines}
    return {"curves": part, "metrics": {"AP": 0.2777}}


def test_each_iou_has_a_curve_and_its_area() -> None:
    figure = curves_chart(curves(1 + 60))
    (axes,) = figure.axes
    assert len(axes.lines) == 10
    assert axes.lines[3].get_xdata().tolist() == pytest.approx([step / 100 for step in range(101)])
    assert axes.lines[3].get_ydata()[50] == 0.7
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == f"0.50   {51 / 101:.3f}"
    assert labels[9] == f"0.95   {51 / 101 * 0.1:.3f}"
    assert axes.get_title().endswith("AP 0.278")


def test_few_classes_have_a_grey_curve_each() -> None:
    assert len(curves_chart(curves(4)).axes[0].lines) == 3 + 10


def test_each_kind_of_mistake_has_its_cost_and_number() -> None:
    costs = {"classification": 0.1, "localisation": 0.2, "both": 0.0, "duplicate": -0.01, "background": 0.05}
    types = [{"key": key, "cost": cost, "count": 1234} for key, cost in costs.items()]
    types.append({"key": "missed", "cost": None, "count": 0})
    special = [{"key": "false_positives", "cost": 0.15}, {"key": "false_negatives", "cost": 0.3}]
    figure = mistakes_chart({"errors": {"AP50": 0.5, "types": types, "special": special}})
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0, 0, 0.05, 0, 0.15, 0.3]
    notes = [text.get_text() for text in axes.texts]
    assert notes[0] == "+0.100   1,234 times"
    assert notes[3] == "-0.010   1,234 times"
    assert notes[5:] == ["-", "+0.150", "+0.300"]
    assert axes.get_xlim()[1] > 0.3


def confusion(part: dict[str, Any], names: list[str]) -> Figure:
    return confusion_chart({"confusion": part, "classes": [{"name": name} for name in names]})


def test_confusion_shows_counts_and_colours_by_the_share_of_the_row() -> None:
    counts = [[90, 0, 10], [0, 25, 75], [5, 0, 0]]
    figure = confusion({"threshold": 0.35, "iou": 0.5, "counts": counts}, ["cat", "dog"])
    axes = figure.axes[0]
    shares = np.asarray(axes.images[0].get_array()) ** 2
    assert shares.round(6).tolist() == [[0.9, 0, 0.1], [0, 0.25, 0.75], [1, 0, 0]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog", "background"]
    assert sorted(text.get_text() for text in axes.texts) == ["10", "25", "5", "75", "90"]
    assert "0.35" in figure.get_suptitle()


def test_of_many_classes_those_with_most_boxes_are_confused() -> None:
    names = [f"class {number}" for number in range(100)]
    counts = np.diag([*range(100), 0])
    figure = confusion({"threshold": 0.5, "iou": 0.5, "counts": counts.tolist()}, names)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == [*names[20:], "background"]
    assert figure.get_suptitle().endswith("80 classes with most boxes, of 100")


def test_empty_bins_of_scores_have_no_bar() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "count": 100, "score": 0.1, "precision": 0.2},
        {"low": 0.5, "high": 1.0, "count": 0, "score": None, "precision": None},
    ]
    figure = calibration_chart({"calibration": {"error": 0.1, "bins": bins}})
    upper, lower = figure.axes
    assert [(bar.get_x(), bar.get_height()) for bar in upper.patches] == [(0.0, 0.2)]
    assert upper.lines[1].get_xydata().tolist() == [[0.1, 0.2]]
    assert [bar.get_height() for bar in lower.patches] == [100]
    assert "off by 0.100 on average" in figure.get_suptitle()


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_long_names_stay_inside_the_picture(classes: int, tmp_path: Any) -> None:
    names = [f"{'a name that goes on and on ' * 3}{number} $x$" for number in range(classes)]
    counts = np.full((classes + 1, classes + 1), 7).tolist()
    path = tmp_path / "confusion.png"
    save_chart(confusion({"threshold": 0.5, "iou": 0.5, "counts": counts}, names), path)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert min(pixels.shape[:2]) > 500
    white = tuple(round(255 * part) for part in to_rgb("white"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == white).all()
