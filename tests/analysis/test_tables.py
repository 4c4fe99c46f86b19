import re
import unicodedata

from dino_detector.analysis.tables import metrics_table
from dino_detector.validate import ClassMetrics, CocoMetrics


def metrics(**changes):
    numbers = {
        "AP": 0.4216, "AP50": 0.7, "AP75": 0.45, "APs": -1, "APm": 0.3, "APl": 0.0,
        "AR1": 0.11, "AR10": 0.52, "AR100": 1.0, "ARs": -1, "ARm": 0.33, "ARl": 0.44,
        "per_class": (
            ClassMetrics(category_id=90, name="owl", AP=0.5, AP50=0.75, boxes=1234),
            ClassMetrics(category_id=0, name="ghost", AP=-1, AP50=-1, boxes=0),
        ),
        "num_images": 5000, "num_detections": 12345,
    }  # fmt: skip
    return CocoMetrics(**{**numbers, **changes})


def cells(table, first):
    [line] = [line for line in table.splitlines() if line.startswith(first)]
    return re.split(r" {2,}", line)[1:]


def test_every_number_stands_under_its_name():
    lines = metrics_table(metrics()).splitlines()
    assert lines[0].split() == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert lines[1].split() == ["precision", "0.422", "0.700", "0.450", "-", "0.300", "0.000"]
    assert lines[3].split() == ["AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert lines[4].split() == ["recall", "0.110", "0.520", "1.000", "-", "0.330", "0.440"]
    for names, numbers in ((lines[0], lines[1]), (lines[3], lines[4])):
        assert [match.end() for match in re.finditer(r"\S+", names)] == [
            match.end() for match in re.finditer(r"\S+", numbers)
        ][1:]
    assert lines[-1] == "5,000 images, 12,345 detections"


def test_classes_are_listed_by_category_id():
    table = metrics_table(metrics())
    assert cells(table, "ghost") == ["-", "-", "0"]
    assert cells(table, "owl") == ["0.500", "0.750", "1,234"]
    assert cells(table, "all") == ["0.422", "0.700", "1,234"]
    assert table.index("\nghost") < table.index("\nowl") < table.index("\nall")


def width(text):
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def test_wide_and_long_names_keep_the_columns_aligned():
    names = ["猫", "naïve Käfer", "x" * 80, "血" * 40, "cafe\u0301"]
    rows = tuple(ClassMetrics(category_id=i, name=name, AP=0.25, AP50=0.5, boxes=7) for i, name in enumerate(names))
    lines = metrics_table(metrics(per_class=rows)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("class"))
    table = [line.replace("\u0301", "") for line in lines[start : start + len(names) + 4]]
    assert len({width(line) for line in table}) == 1
    assert width(table[0]) < 80
    assert table[4].startswith("xxxxxxxx")
    assert "...  " in table[4]


def test_a_class_name_of_the_longest_length_is_not_cut():
    rows = (ClassMetrics(category_id=1, name="y" * 32, AP=0.25, AP50=0.5, boxes=7),)
    assert "y" * 32 + "  " in metrics_table(metrics(per_class=rows))
