"""Statistics of the comparison against values worked out by hand, and the page."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy import summary, table
from benchmarks.accuracy.summary import Reached, Spread
from benchmarks.accuracy.systems import OURS, SYSTEMS, precision


def result(system: str, points: list[tuple[float, int, float]], **fields: Any) -> dict[str, Any]:
    """Return a run with the given seconds, images and AP of its evaluations."""
    metrics = {"AP50": 0.5, "AP75": 0.1, "APs": -1, "APm": 0.2, "APl": 0.3}
    evaluations = [{"seconds": s, "images_seen": n, "AP": ap, **metrics} for s, n, ap in points]
    given = {
        "job": {
            "system": system,
            "seed": 3,
            "budget": 100.0,
            "evaluations": 2,
            "device": "cpu",
            "settings": SYSTEMS[system].settings or {"precision": "bf16"},
        },
        "evaluations": evaluations,
        "peak_memory_bytes": 3 * 2**29,
        "peak_gpu_memory_bytes": None,
        "parameters": 5_940_000,
        "processor_share_of_others": 0.01,
        "revision": "0.1.0 (abc)",
    }
    return given | fields


OUR_RUNS = [
    result(OURS, [(50.0, 1000, 0.20), (100.0, 2000, 0.40)]),
    result(OURS, [(50.0, 1000, 0.30), (100.0, 2000, 0.50)]),
]
PEER = [
    result("deformable_detr", [(50.0, 100, 0.05), (100.0, 200, 0.24)]),
    result("deformable_detr", [(50.0, 100, 0.05), (102.0, 204, 0.26)]),
]
WORSE_PEER = [result("rf_detr", [(100.0, 400, 0.10)])]


def test_the_deviation_is_the_sample_deviation():
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(2.0, 1.0)
    assert Spread.of([0.4]) == Spread(0.4, None)


def test_reaching_an_ap_is_interpolated_between_evaluations():
    evaluations = OUR_RUNS[0]["evaluations"]
    assert summary.first_at(evaluations, 0.10, "images_seen") == pytest.approx(500)  # from 0 at the start
    assert summary.first_at(evaluations, 0.25, "images_seen") == pytest.approx(1250)
    assert summary.first_at(evaluations, 0.25, "seconds") == pytest.approx(62.5)
    assert summary.first_at(evaluations, 0.40, "seconds") == pytest.approx(100)
    assert summary.first_at(evaluations, 0.41, "seconds") is None


def test_an_ap_counts_as_reached_at_the_first_time():
    evaluations = result(OURS, [(10.0, 10, 0.3), (20.0, 20, 0.1), (30.0, 30, 0.5)])["evaluations"]
    assert summary.first_at(evaluations, 0.15, "seconds") == pytest.approx(5)
    assert summary.first_at(evaluations, 0.4, "seconds") == pytest.approx(27.5)


def test_runs_below_an_ap_are_counted_and_not_averaged():
    assert summary.reached(OUR_RUNS, 0.45, "images_seen") == Reached(Spread(1750.0, None), 1, 2)
    assert summary.reached(OUR_RUNS, 0.9, "images_seen") == Reached(None, 0, 2)


def test_the_ap_along_a_run_is_known_up_to_its_end():
    assert summary.ap_at(OUR_RUNS[0]["evaluations"], 75.0, "seconds") == pytest.approx(0.30)
    assert summary.ap_at(OUR_RUNS[0]["evaluations"], 2000, "images_seen") == pytest.approx(0.40)
    assert summary.ap_at(OUR_RUNS[0]["evaluations"], 2001, "images_seen") is None
    spread = summary.along(OUR_RUNS, 25.0, "seconds")
    assert spread == Spread(pytest.approx(0.125), pytest.approx(0.05 / 2**0.5))
    assert summary.along([*OUR_RUNS, *PEER], 500, "images_seen") is None  # the peer saw fewer


def test_the_better_peer_has_the_highest_final_ap_and_is_not_ours():
    runs = {OURS: OUR_RUNS, "rf_detr": WORSE_PEER, "deformable_detr": PEER}
    assert summary.better_peer(runs, ours=OURS) == ("deformable_detr", pytest.approx(0.25))
    assert summary.better_peer({OURS: OUR_RUNS}, ours=OURS) is None


def cells(page: str, title: str, heading: str) -> list[str]:
    """Return the cells of a system's row in the table below a heading."""
    section = page.split(heading, 1)[1].split("\n## ", 1)[0]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_page_shows_what_was_measured():
    runs = {OURS: OUR_RUNS, "deformable_detr": PEER, "rf_detr": WORSE_PEER}
    page = table.page(runs, facts={"data": "bccd", "machine": "two cores"})
    assert "- data: bccd\n- machine: two cores\n" in page
    ours = cells(page, "dinov2-od", "# Accuracy")
    assert ours[1:7] == ["5.9 M", "bf16", "2", "0.450 ± 0.071", "0.500 ± 0.000", "-"]
    assert ours[9:13] == ["2,000 ± 0", "20.0 ± 0.0", "100 ± 0 s", "1.50 ± 0.00 GiB"]
    assert cells(page, "RF-DETR, 13 groups", "# Accuracy")[13:] == ["not reached", "not reached"]
    assert cells(page, "dinov2-od", "against training time") == ["dinov2-od", "0.250 ± 0.071", "0.450 ± 0.071"]
    assert cells(page, "RF-DETR, 13 groups", "against training images") == [
        "RF-DETR, 13 groups",
        "0.050",
        "0.100",
        "-",
    ]
    assert "**" not in page.split("## What was run")[0]  # no warnings


def test_the_table_has_the_training_that_reaches_the_better_peer():
    page = table.page({OURS: OUR_RUNS, "deformable_detr": PEER}, facts={})
    assert "images to AP 0.250, where Deformable DETR ends" in page
    # AP 0.25 lies at 1,250 and 833.3 images, or 62.5 and 41.7 seconds
    assert cells(page, "dinov2-od", "# Accuracy")[13:] == ["1,042 ± 295", "52 ± 15"]
    assert cells(page, "Deformable DETR", "# Accuracy")[13:] == ["199 (1 of 2 runs)", "100 (1 of 2 runs)"]


def test_the_page_warns_of_a_busy_machine():
    page = table.page({OURS: [result(OURS, [(1.0, 1, 0.1)], processor_share_of_others=0.42)]}, facts={})
    assert "other programs used up to 42% of its processor" in page


def test_the_page_warns_of_a_run_that_missed_its_budget():
    early = result("deformable_detr", [(50.0, 100, 0.1), (94.0, 200, 0.2)])
    page = table.page({OURS: OUR_RUNS, "deformable_detr": [*PEER, early]}, facts={})
    assert page.count("; its budget was") == 1
    assert "**Deformable DETR, seed 3 trained 94 s**; its budget was 100 s." in page


def test_the_page_warns_of_different_revisions():
    later = result(OURS, [(100.0, 2000, 0.5)], revision="0.1.0 (def)")
    page = table.page({OURS: [*OUR_RUNS, later]}, facts={})
    assert "**The runs have different revisions**: 0.1.0 (abc), 0.1.0 (def)." in page


def test_the_memory_on_a_gpu_is_the_peak_of_the_gpu():
    page = table.page({OURS: [result(OURS, [(1.0, 1, 0.1)], peak_gpu_memory_bytes=2**31)]}, facts={})
    assert cells(page, "dinov2-od", "# Accuracy")[12] == "2.00 GiB"


@pytest.mark.parametrize(
    ("system", "device", "settings", "expected"),
    [
        (OURS, "cpu", {"precision": "bf16"}, "bf16"),
        ("deformable_detr", "cuda", SYSTEMS["deformable_detr"].settings, "32"),
        ("rf_detr", "cpu", SYSTEMS["rf_detr"].settings, "32"),
        ("rf_detr", "cuda", SYSTEMS["rf_detr"].settings, "bf16"),
        ("rf_detr_1_group_bf16", "cpu", SYSTEMS["rf_detr_1_group_bf16"].settings, "bf16"),
    ],
)
def test_the_precision_of_each_system(system: str, device: str, settings: dict[str, Any], expected: str):
    assert precision({"system": system, "device": device, "settings": settings}) == expected
