"""The comparison as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.accuracy import summary
from benchmarks.accuracy.summary import Reached, Spread
from benchmarks.accuracy.systems import OURS, SYSTEMS, precision

GIB = 2**30
BUSY = 0.1
"""share of the processor in other programs above which the page warns"""
OFF_BUDGET = 0.05
"""deviation from the budget, as a share of it, above which the page warns"""

Runs = dict[str, list[dict[str, Any]]]
"""results of runs by name of the system"""


def page(runs: Runs, *, facts: dict[str, str]) -> str:
    """Return the page.

    Args:
        runs: one or more results of each system in the table.
        facts: description of the comparison and the machine, by name.
    """
    blocks = [
        ["# Accuracy at an equal budget of training time"],
        [f"- {name}: {value}" for name, value in facts.items()],
        *_warnings(runs),
        [
            "AP is COCO's, at 100 detections per image. Numbers are means over the seeds ± standard deviation (n - 1). "
            "Time is the wall time of training since its first step, with data loading and without evaluation. "
            "Memory is the peak of all processes of a run, counting shared memory once, or the peak of the GPU."
        ],
        _main_table(runs),
        ["## AP against training time"],
        _over_seconds(runs),
        ["## AP against training images", "", "\\- means that a run ended earlier."],
        _over_images(runs),
        ["## What was run"],
        [f"- **{SYSTEMS[name].title}**: {SYSTEMS[name].note}." for name in runs],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def spread_text(spread: Spread | None, digits: int) -> str:
    """Return ``0.412 ± 0.013`` with thousands separators; a dash for None, the mean alone without a deviation."""
    if spread is None:
        return "-"
    mean = f"{spread.mean:,.{digits}f}"
    return mean if spread.deviation is None else f"{mean} ± {spread.deviation:,.{digits}f}"


def reached_text(reached: Reached, digits: int = 0) -> str:
    """Return the training that was needed, and the number of runs that reached the AP if some did not."""
    if reached.spread is None:
        return "not reached"
    some = "" if reached.runs == reached.of else f" ({reached.runs} of {reached.of} runs)"
    return spread_text(reached.spread, digits) + some


def _main_table(runs: Runs) -> list[str]:
    best = summary.better_peer(runs, ours=OURS)
    head = ["system", "parameters", "precision", "runs", "AP", "AP50", "AP small", "AP medium", "AP large"]
    head += ["images seen", "images/s", "training", "memory"]
    if best is not None:
        name, target = best
        goal = f"AP {target:.3f}, where {SYSTEMS[name].title} ends"
        head += [f"images to {goal}", f"seconds to {goal}"]
    rows = []
    for name, results in runs.items():
        parameters = f"{results[0]['parameters'] / 1e6:.1f} M"
        row = [SYSTEMS[name].title, parameters, precision(results[0]["job"]), str(len(results))]
        row += [_metric(results, metric) for metric in ("AP", "AP50", "APs", "APm", "APl")]
        row += [
            spread_text(summary.at_the_end(results, "images_seen"), 0),
            spread_text(Spread.of([_pace(result) for result in results]), 1),
            spread_text(summary.at_the_end(results, "seconds"), 0) + " s",
            spread_text(Spread.of([_memory(result) for result in results]), 2) + " GiB",
        ]
        if best is not None:
            row += [reached_text(summary.reached(results, best[1], axis)) for axis in ("images_seen", "seconds")]
        rows.append(row)
    return _markdown(head, rows)


def _over_seconds(runs: Runs) -> list[str]:
    job = next(iter(runs.values()))[0]["job"]
    times = [job["budget"] * number / job["evaluations"] for number in range(1, job["evaluations"])]
    rows = [
        [SYSTEMS[name].title]
        + [spread_text(summary.along(results, time, "seconds"), 3) for time in times]
        + [_metric(results, "AP")]
        for name, results in runs.items()
    ]
    return _markdown(["system", *(f"{time:,.0f} s" for time in times), "end"], rows)


def _over_images(runs: Runs) -> list[str]:
    """Return a table whose columns are the final image counts of the systems."""
    places = sorted({min(result["evaluations"][-1]["images_seen"] for result in results) for results in runs.values()})
    rows = [
        [SYSTEMS[name].title] + [spread_text(summary.along(results, place, "images_seen"), 3) for place in places]
        for name, results in runs.items()
    ]
    return _markdown(["system", *(f"{place:,}" for place in places)], rows)


def _metric(results: Sequence[dict[str, Any]], name: str) -> str:
    """Return a final metric, or a dash where the data has no object of that size."""
    spread = summary.at_the_end(results, name)
    return "-" if spread.mean == -1 else spread_text(spread, 3)


def _pace(result: dict[str, Any]) -> float:
    last = result["evaluations"][-1]
    return last["images_seen"] / last["seconds"]


def _memory(result: dict[str, Any]) -> float:
    """Return the peak memory of the GPU, or of the processes on a CPU, in GiB."""
    return (result["peak_gpu_memory_bytes"] or result["peak_memory_bytes"]) / GIB


def _warnings(runs: Runs) -> list[list[str]]:
    """Return paragraphs about runs whose numbers are doubtful or not comparable."""
    results = [result for of_one in runs.values() for result in of_one]
    found = []
    most = max(result["processor_share_of_others"] for result in results)
    if most >= BUSY:
        found.append(f"**The machine was not quiet**: other programs used up to {most:.0%} of its processor.")
    for result in results:
        job, seconds = result["job"], result["evaluations"][-1]["seconds"]
        if abs(seconds / job["budget"] - 1) > OFF_BUDGET:
            run = f"{SYSTEMS[job['system']].title}, seed {job['seed']}"
            found.append(f"**{run} trained {seconds:.0f} s**; its budget was {job['budget']:g} s.")
    revisions = sorted({result["revision"] for result in results})
    if len(revisions) > 1:
        found.append(f"**The runs have different revisions**: {', '.join(revisions)}.")
    return [[text] for text in found]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
