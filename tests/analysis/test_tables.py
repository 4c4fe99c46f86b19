import re
import unicodedata

from dino_detector.analysis.tables import comparison_table, metrics_table
from dino_detector.structures.metrics import ClassMetrics, CocoMetrics


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


def comparison(**changes):
    numbers = {"AP": {"baseline": 0.25, "value": 0.5}, "APs": {"baseline": None, "value": 0.125}}
    classes = [
        {"name": "cat", "boxes": 3, "baseline": 0.5, "AP": 0.25, "change": -0.25},
        {"name": "emu", "boxes": 3, "baseline": 0.25, "AP": 0.5, "change": 0.25},
        {"name": "dog", "boxes": 3, "baseline": 0.0, "AP": 0.75, "change": 0.75},
        {"name": "fox", "boxes": 3, "baseline": None, "AP": 0.5, "change": None},
        {"name": "gnu", "boxes": 3, "baseline": 0.5, "AP": 0.5, "change": 0.0},
    ]
    interval = {"resamples": 1000, "difference": 0.25, "low": 0.125, "high": 0.375, "level": 0.95}
    flipped = {"gained": [], "lost": [], "total_gained": 1200, "total_lost": 7}
    flipped |= {"baseline_threshold": 0.4163, "threshold": 0.25}
    return {"metrics": numbers, "classes": classes, "bootstrap": interval, "flipped": flipped, **changes}


def test_a_comparison_shows_before_now_and_the_change():
    table = comparison_table(comparison())
    assert cells(table, "AP  ") == ["0.250", "0.500", "+0.250"]
    assert cells(table, "APs") == ["-", "0.125", "-"]
    assert "AP +0.250, 95% interval +0.125 to +0.375: better beyond chance" in table
    assert "1,200 images became better and 7 images worse." in table
    assert table.endswith("0.4163 before, 0.25 now.")


def test_classes_that_changed_most_stand_first():
    lines = comparison_table(comparison()).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("gained: 2 of 5")))
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["dog", "emu"]
    assert lines[start + 4].startswith("lost: 1 of 5")
    assert lines[start + 5].split() == ["cat", "0.500", "0.250", "-0.250"]


def test_an_interval_that_holds_zero_is_said_to_be_perhaps_chance():
    interval = {"resamples": 1000, "difference": 0.01, "low": -0.01, "high": 0.03, "level": 0.95}
    assert "-0.010 to +0.030: may be chance" in comparison_table(comparison(bootstrap=interval))


def test_numbers_alone_are_compared_without_interval_and_images():
    table = comparison_table(comparison(bootstrap=None, flipped=None))
    assert "interval" not in table
    assert "became" not in table
