import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from dino_detector.analysis.charts import (
    BLUE,
    VERMILLION,
    class_chart,
    count_chart,
    metrics_chart,
    save_chart,
    score_chart,
)


def metrics(*rows, AP=0.4):
    """The payload of classes that are given as (name, AP, AP50, boxes)."""
    numbers = {
        "AP": AP, "AP50": 0.8, "AP75": 0.45, "APs": None, "APm": 0.3, "APl": 0.0,
        "AR1": 0.1, "AR10": 0.5, "AR100": 1.0, "ARs": None, "ARm": 0.33, "ARl": 0.44,
    }  # fmt: skip
    classes = [dict(zip(("name", "AP", "AP50", "boxes"), row, strict=True)) for row in rows]
    counts = {"images": 5000, "detections": 12345, "max_detections": 100}
    return {"metrics": numbers, "classes": classes, **counts}


def bars(figure):
    return [bar.get_width() for bar in figure.axes[0].patches]


def names(figure):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def notes(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def drawn(figure, tmp_path):
    """Return the RGB pixels of the figure's PNG, 0..255, ``[H, W, 3]``."""
    save_chart(figure, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def pixels(picture, color):
    return (picture == [round(part * 255) for part in to_rgb(color)]).all(axis=2)  # [H, W]


def test_the_twelve_numbers_are_bars_in_coco_order():
    figure = metrics_chart(metrics())
    assert [name.split()[0] for name in names(figure)] == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
    ]
    assert bars(figure) == [0.4, 0.8, 0.45, 0, 0.3, 0, 0.1, 0.5, 1, 0, 0.33, 0.44]
    assert figure.axes[0].get_xlim() == (0, 1)


def test_absent_ground_truth_is_said_and_zero_stays_zero():
    assert notes(metrics_chart(metrics())) == [
        *("0.400", "0.800", "0.450", "no such ground truth", "0.300", "0.000"),
        *("0.100", "0.500", "1.000", "no such ground truth", "0.330", "0.440"),
    ]


def test_a_bar_of_twice_the_precision_is_twice_as_long_in_the_picture(tmp_path):
    lengths = pixels(drawn(metrics_chart(metrics()), tmp_path), BLUE).sum(axis=1)  # [H]
    assert lengths.max() > 300
    # AP50 0.8, AP75 0.45, AP 0.4, APm 0.3; the rest of the chart has no blue
    found = sorted({int(length) for length in lengths if length > 5})
    assert [length / lengths.max() * 0.8 for length in found] == pytest.approx([0.3, 0.4, 0.45, 0.8], abs=0.01)


def test_classes_are_sorted_by_precision_and_those_without_ground_truth_come_last():
    figure = class_chart(
        metrics(("owl", None, None, 0), ("cat", 0.2, 0.6, 1), ("dog", 0.7, 0.9, 1234), ("eel", 0, 0.1, 2))
    )
    assert names(figure) == ["dog", "cat", "eel", "owl"]
    assert bars(figure) == [0.7, 0.2, 0, 0]
    assert notes(figure) == ["0.700   1,234 boxes", "0.200   1 box", "0.000   2 boxes", "no ground truth"]


def test_dots_are_at_the_precision_at_half_overlap():
    [dots] = class_chart(metrics(("a", None, None, 0), ("b", 0.2, 0.6, 1), ("c", 0.7, 0.9, 3))).axes[0].collections
    assert dots.get_offsets().tolist() == [[0.9, 0], [0.6, 1]]


def test_a_hundred_classes_are_shown_whole():
    figure = class_chart(metrics(*((f"c{number}", number / 200, 0.9, 5) for number in range(100))))
    assert names(figure) == [f"c{number}" for number in range(99, -1, -1)]


def test_of_more_classes_the_ends_are_shown():
    rows = [(f"c{number}", number / 200, 0.9, 5) for number in range(150)]
    figure = class_chart(metrics(*rows, ("nowhere", None, None, 0)))
    assert names(figure) == [f"c{number}" for number in (*range(149, 99, -1), *range(49, -1, -1))]
    title = figure.get_suptitle()
    assert (
        title == "AP per class, mean 0.400: the 50 best and the 50 worst of 151 classes, 1 of them without ground truth"
    )


def test_classes_without_any_ground_truth_are_drawn(tmp_path):
    figure = class_chart(metrics(("a", None, None, 0), ("b", None, None, 0), AP=None))
    assert notes(figure) == ["no ground truth"] * 2
    assert pixels(drawn(figure, tmp_path), "white").mean() > 0.8


def test_names_of_eighty_classes_do_not_overlap(tmp_path):
    figure = class_chart(metrics(*((f"class {number}", 0.5, 0.9, 5) for number in range(80))))
    picture = drawn(figure, tmp_path)
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 80
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert pixels(picture[:, :3], "white").all()  # no name is cut off at the edge


def test_long_names_are_cut_and_leave_room_for_the_bars(tmp_path):
    figure = class_chart(metrics(("x" * 80, 1.0, 1.0, 5), ("y" * 28, 1.0, 1.0, 5)))
    assert names(figure) == ["x" * 25 + "...", "y" * 28]
    picture = pixels(drawn(figure, tmp_path), BLUE)
    assert picture.sum(axis=1).max() > 0.4 * picture.shape[1]


def test_names_are_not_taken_for_formulas_or_lines(tmp_path):
    figure = class_chart(
        metrics(("$5 and $10_x^2", 0.5, 0.5, 5), ("two\nlines", 0.4, 0.5, 5), ("bad $\\frac$", 0.3, 1, 5))
    )
    assert drawn(figure, tmp_path).size
    assert names(figure) == ["$5 and $10_x^2", "two lines", "bad $\\frac$"]
    assert not any(text.get_parse_math() for text in figure.axes[0].get_yticklabels())


def test_names_of_other_scripts_have_a_font_that_knows_them():
    monospace_seven = "\U0001d7fd"  # not in DejaVu Sans, but in other fonts that come with matplotlib
    figure = class_chart(metrics(("Жук", 0.5, 0.5, 5), (monospace_seven, 0.4, 0.5, 5)))
    latin, other = (text.get_fontproperties().get_file() for text in figure.axes[0].get_yticklabels())
    assert latin.endswith("DejaVuSans.ttf")
    assert not other.endswith("DejaVuSans.ttf")


def test_scores_are_counted_in_steps_of_a_twentieth():
    figure = score_chart([0.0, 0.049, 0.05, 0.15, 0.3, 0.999, 1.0], threshold=0.15)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [2, 1, 0, 1, 0, 0, 1, *[0] * 12, 2]
    assert figure.axes[0].get_title() == "7 detections, 4 with a score of at least 0.15 (line)"


def test_the_threshold_is_a_line_where_it_belongs(tmp_path):
    picture = drawn(score_chart([0.1], threshold=0.75), tmp_path)
    line = np.flatnonzero(pixels(picture, VERMILLION).sum(axis=0) > 100)
    bar = np.flatnonzero(pixels(picture, BLUE).sum(axis=0) > 10)
    step = len(bar)  # the bar reaches from 0.10 to 0.15, the line is 12 steps from its right edge
    assert line.mean() == pytest.approx(bar.max() + 12 * step, rel=0.05)


def test_a_single_detection_is_visible_beside_thousands(tmp_path):
    picture = pixels(drawn(score_chart([0.01] * 5000 + [0.99], threshold=0.5), tmp_path), BLUE)
    assert picture[:, picture.shape[1] // 2 :].sum() > 500


def test_classes_are_counted_by_falling_number():
    figure = count_chart([("owl", 0), ("cat", 3), ("dog", 1200), ("cat", 5)], threshold=0.5)
    assert names(figure) == ["dog", "cat", "cat", "owl"]
    assert bars(figure) == [1200, 5, 3, 0]
    assert notes(figure) == ["1,200", "5", "3", "0"]


def test_of_more_than_a_hundred_classes_the_most_frequent_are_counted():
    figure = count_chart([(f"c{number}", number) for number in range(130)], threshold=0.25)
    assert names(figure) == [f"c{number}" for number in range(129, 29, -1)]
    title = "Detections per class with a score of at least 0.25: the 100 most frequent of 130 classes"
    assert figure.get_suptitle() == title
