"""The HTML of a report that needs no JavaScript: the twelve numbers, the sentences, and the table of classes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dino_detector.analysis.wording import (
    DASH,
    MISTAKES,
    calibration_caption,
    comparison_verdict,
    confusion_caption,
    costs_caption,
    flipped_captions,
    fraction,
    metric_meanings,
)
from dino_detector.plain_text import counted

Payload = Mapping[str, Any]

PARTS = {
    "errors": "kinds of mistakes",
    "gallery": "worst images",
    "curves": "precision and recall",
    "confusion": "confusions",
    "calibration": "calibration",
    "scores": "scores",
}


class Column(NamedTuple):
    """A column of the class table: its key in the payload, its head, and the meaning of its numbers."""

    key: str
    head: str
    meaning: str = ""
    kind: str = "fraction"
    bar: bool = False


def class_columns(max_detections: int) -> list[Column]:
    """Return the columns of the class table."""
    meanings = metric_meanings(max_detections)
    precision = [Column(name, name, meanings[name], bar=name == "AP") for name in meanings if name.startswith("AP")]
    recall = f"AR{max_detections}"
    return [
        Column("name", "class", kind="text"),
        *precision,
        Column("AR100", recall, f"recall with {meanings[recall]}"),
        Column("boxes", "boxes", "objects in the ground truth", kind="count"),
        Column("F1", "F1", "the best F1 at IoU 0.50 over all thresholds", bar=True),
        Column("threshold", "thresh\N{SOFT HYPHEN}old", "the score that gives the best F1"),
        Column("precision", "preci\N{SOFT HYPHEN}sion", "at that threshold"),
        Column("recall", "recall", "at that threshold"),
    ]


def captions(payload: Payload) -> dict[str, str]:
    """Return the sentences of the sections by their names in ``page.html``, as HTML; empty for absent sections."""
    writers = {
        "errors": costs_caption,
        "confusion": confusion_caption,
        "calibration": _calibration,
        "gallery": _gallery,
        "comparison": comparison_verdict,
    }
    texts = {
        name: "" if payload[name] is None else html.escape(write(payload[name])) for name, write in writers.items()
    }
    comparison = payload["comparison"] or {"title": "", "baseline_title": "", "flipped": None}
    flipped = comparison["flipped"]
    return texts | {
        "runs": f"{_name(comparison['title'])} against the baseline {_name(comparison['baseline_title'])}.",
        "flipped": "" if flipped is None else html.escape(" ".join(flipped_captions(flipped))),
    }


def _calibration(calibration: Payload) -> str:
    """Return the calibration error, and whether scores are too high or too low."""
    filled = [row for row in calibration["bins"] if row["count"]]
    excess = sum(row["count"] * (row["score"] - row["precision"]) for row in filled)
    if not filled or calibration["error"] < 0.0005:
        return calibration_caption(calibration)
    return (
        f"{calibration_caption(calibration)} On the whole they are {'higher' if excess > 0 else 'lower'} than the "
        "detections deserve. The table of classes has the best threshold of each class."
    )


def _gallery(gallery: Payload) -> str:
    """Return which images the gallery has, and the rule for a missed object."""
    total, shown = gallery["total"], len(gallery["images"])
    have = counted(total, "image has", "images have")
    which = f"the {shown:,} worst are here" if shown < total else "all are here"
    return (
        f"{have} a mistake; {which}, the worst first. Of each image the detections with the highest scores are kept. "
        "An object is missed if no correct detection of it reaches the threshold. A missed object has no score, so "
        "that a narrower range of scores leaves it out."
    )


def counts_line(payload: Payload) -> str:
    """Return the numbers of images, objects, detections and classes, as HTML."""
    nouns = {"images": "image", "boxes": "object", "detections": "detection"}
    phrases = [counted(payload[key], noun) for key, noun in nouns.items()]
    return html.escape(" · ".join([*phrases, counted(len(payload["classes"]), "class", "classes")]))


def plain_sentences(payload: Payload) -> str:
    """Return the kind of mistake that costs most and the class with the lowest AP, in sentences, as HTML."""
    sentences = [_costs(payload["errors"]), _furthest_behind(payload["classes"])]
    return " ".join(sentence for sentence in sentences if sentence)


def headline(metrics: Mapping[str, float | None], *, max_detections: int) -> str:
    """Return AP in large and the other COCO numbers with their meanings, as HTML."""
    meanings = metric_meanings(max_detections)
    groups = ""
    for title, letters in (("Average precision", "AP"), ("Average recall", "AR")):
        rows = "".join(_metric(key, metrics[key], meanings[key]) for key in meanings if key.startswith(letters))
        groups += f'<div class="metrics"><h3>{title}</h3><dl>{rows}</dl></div>'
    large = f'<p class="large"><strong>{fraction(metrics["AP"])}</strong> <span>AP, {meanings["AP"]}</span></p>'
    return large + groups


def class_table(classes: Sequence[Payload], *, max_detections: int) -> str:
    """Return a table row for each class as HTML, by rising AP, and classes without ground truth last.

    Columns without any number are left out.
    """
    columns = [
        column for column in class_columns(max_detections) if any(row[column.key] is not None for row in classes)
    ]
    heads = "".join(map(_head, columns))
    ordered = sorted(classes, key=lambda row: (row["AP"] is None, row["AP"] or 0.0))
    rows = "".join(f"<tr>{''.join(_cell(column, row[column.key]) for column in columns)}</tr>" for row in ordered)
    return f'<table id="class-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def class_note(classes: Sequence[Payload]) -> str:
    """Return how to read the class table, as HTML."""
    dash = f"{DASH} means that there is no such ground truth."
    if all(row["threshold"] is None for row in classes):
        return dash
    best = "Threshold is the score that gives the class its best F1 at IoU 0.50; precision and recall hold at it."
    return f"{best} {dash}"


def missing_parts(payload: Payload) -> str:
    """Return notes on the parts that the report lacks and how to get them, as HTML; empty for a whole report."""
    notes = []
    if missing := [name for key, name in PARTS.items() if payload[key] is None]:
        notes.append(
            f"Not in this report: {', '.join(missing)}. Detections and annotations are needed for this; see --help."
        )
    if payload["comparison"] is None:
        notes.append("There is no comparison: a baseline run is needed for this; see --help.")
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def _costs(errors: Payload | None) -> str:
    if errors is None:
        return ""
    costs = sorted(((kind["cost"] or 0.0, MISTAKES[kind["key"]].many) for kind in errors["types"]), reverse=True)
    (most, worst), (second, runner_up) = costs[:2]
    if errors["AP50"] is None:
        return ""
    if most <= 0:
        return "No kind of mistake costs any AP50."
    sentence = f"{worst.capitalize()} cost most: {fraction(most)} of AP50"
    return f"{sentence}, then {runner_up}: {fraction(second)}." if second > 0 else f"{sentence}."


def _furthest_behind(classes: Sequence[Payload]) -> str:
    measured = [row for row in classes if row["AP"] is not None]
    if not measured:
        return "There is no ground truth to measure against."
    if len(measured) == 1:
        return ""
    row = min(measured, key=lambda row: row["AP"])
    objects = counted(row["boxes"], "object")
    return f"Furthest behind is the class {_name(row['name'])}, AP {fraction(row['AP'])} on {objects}."


def _metric(key: str, value: float | None, meaning: str) -> str:
    return f"<div><dt>{key}</dt><dd><b>{fraction(value)}</b> {_bar(value)}<span>{meaning}</span></dd></div>"


def _head(column: Column) -> str:
    title = f' title="{html.escape(column.meaning)}"' if column.meaning else ""
    order = ' aria-sort="ascending"' if column.key == "AP" else ""
    return f'<th scope="col" data-kind="{column.kind}"{title}{order}>{column.head}</th>'


def _cell(column: Column, value: Any) -> str:
    if column.kind == "text":
        return f'<th scope="row">{_name(value)}</th>'
    if value is None:
        return f'<td class="none" data-value="">{DASH}</td>'
    shown = f"{value:,}" if column.kind == "count" else fraction(value)
    return f'<td data-value="{value}">{_bar(value) if column.bar else ""}{shown}</td>'


def _name(name: str) -> str:
    """Return a name from the user's files, in an element that contains right-to-left text."""
    return f"<bdi>{html.escape(name)}</bdi>"


def _bar(value: float | None) -> str:
    """Return a fraction as an SVG bar: the page's policy forbids style attributes."""
    return f'<svg class="bar" aria-hidden="true"><rect width="{100 * (value or 0):.1f}%" height="100%"/></svg>'
