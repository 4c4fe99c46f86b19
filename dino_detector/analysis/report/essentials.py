"""What a report says without JavaScript: the twelve numbers, what costs most, and the table of classes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dino_detector.plain_text import counted

Payload = Mapping[str, Any]

NONE = "\N{EN DASH}"
"""stands where there is nothing to measure"""

PRECISION = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "loose boxes count: IoU 0.50",
    "AP75": "tight boxes only: IoU 0.75",
    "APs": "small, below 32² pixels",
    "APm": "medium, 32² to 96² pixels",
    "APl": "large, above 96² pixels",
}
RECALL = {
    "AR1": "with 1 box an image and class",
    "AR10": "with 10 boxes",
    "AR": "with {} boxes",
    "ARs": "small objects",
    "ARm": "medium objects",
    "ARl": "large objects",
}
MISTAKES = {
    "classification": "wrong classes",
    "localisation": "poor boxes",
    "both": "poor boxes of a wrong class",
    "duplicate": "duplicates",
    "background": "boxes where nothing is",
    "missed": "missed objects",
}
PARTS = {
    "errors": "kinds of mistakes",
    "gallery": "worst images",
    "curves": "precision and recall",
    "confusion": "confusions",
    "calibration": "calibration",
    "scores": "scores",
}


class Column(NamedTuple):
    """A column of the class table: its key in the payload, what its head says, and what that means."""

    key: str
    head: str
    meaning: str
    kind: str = "fraction"
    bar: bool = False


COLUMNS = (
    Column("name", "class", "", kind="text"),
    Column("AP", "AP", PRECISION["AP"], bar=True),
    Column("AP50", "AP50", "at IoU 0.50"),
    Column("AP75", "AP75", "at IoU 0.75"),
    Column("APs", "APs", PRECISION["APs"]),
    Column("APm", "APm", PRECISION["APm"]),
    Column("APl", "APl", PRECISION["APl"]),
    Column("AR100", "AR{}", "recall with {} boxes an image"),
    Column("boxes", "boxes", "objects in the ground truth", kind="count"),
    Column("F1", "F1", "the best F1 at IoU 0.50 over all thresholds", bar=True),
    Column("threshold", "thresh\N{SOFT HYPHEN}old", "the score that gives the best F1"),
    Column("precision", "preci\N{SOFT HYPHEN}sion", "at that threshold"),
    Column("recall", "recall", "at that threshold"),
)


def counts_line(payload: Payload) -> str:
    """How many images, objects and detections the numbers rest on, as HTML."""
    nouns = {"images": "image", "boxes": "object", "detections": "detection"}
    phrases = [counted(payload[key], noun) for key, noun in nouns.items()]
    return html.escape(" · ".join([*phrases, counted(len(payload["classes"]), "class", "classes")]))


def plain_sentences(payload: Payload) -> str:
    """One or two sentences for a reader with no time, as HTML: what costs most, and the class furthest behind."""
    sentences = [_costs(payload["errors"]), _furthest_behind(payload["classes"])]
    return " ".join(sentence for sentence in sentences if sentence)


def headline(metrics: Mapping[str, float | None], *, max_detections: int) -> str:
    """AP in large and the other numbers of COCO, each with its meaning, as HTML."""
    groups = ""
    for name, meanings in (("Average precision", PRECISION), ("Average recall", RECALL)):
        named = {f"AR{max_detections}" if key == "AR" else key: text for key, text in meanings.items()}
        rows = "".join(_metric(key, metrics[key], text.format(max_detections)) for key, text in named.items())
        groups += f'<div class="metrics"><h3>{name}</h3><dl>{rows}</dl></div>'
    large = f'<p class="large"><strong>{fraction(metrics["AP"])}</strong> <span>AP, {PRECISION["AP"]}</span></p>'
    return large + groups


def class_table(classes: Sequence[Payload], *, max_detections: int) -> str:
    """A table row for each class, the lowest AP first and classes without ground truth last, as HTML.

    Columns that have no number at all are left out.
    """
    columns = [column for column in COLUMNS if any(row[column.key] is not None for row in classes)]
    heads = "".join(_head(column, max_detections) for column in columns)
    ordered = sorted(classes, key=lambda row: (row["AP"] is None, row["AP"] or 0.0))
    rows = "".join(f"<tr>{''.join(_cell(column, row[column.key]) for column in columns)}</tr>" for row in ordered)
    return f'<table id="class-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def class_note(classes: Sequence[Payload]) -> str:
    """How to read the class table, as HTML."""
    dash = f"{NONE} is where there is no such ground truth."
    if all(row["threshold"] is None for row in classes):
        return dash
    best = "Threshold is the score that gives the class its best F1 at IoU 0.50; precision and recall are those at it."
    return f"{best} {dash}"


def missing_parts(payload: Payload) -> str:
    """A note on the parts that the payload has no numbers for, and how to get them, as HTML; empty where none is."""
    notes = []
    if missing := [name for key, name in PARTS.items() if payload[key] is None]:
        notes.append(
            f"Not in this report: {', '.join(missing)}. Detections and annotations are needed for this; see --help."
        )
    if payload["comparison"] is None:
        notes.append("There is no comparison: a baseline run is needed for this; see --help.")
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def fraction(value: float | None) -> str:
    """A fraction with three digits, or a dash where there is nothing to measure."""
    return NONE if value is None else f"{value:.3f}"


def _costs(errors: Payload | None) -> str:
    if errors is None:
        return ""
    costs = sorted(((kind["cost"] or 0.0, MISTAKES[kind["key"]]) for kind in errors["types"]), reverse=True)
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


def _head(column: Column, max_detections: int) -> str:
    meaning, head = column.meaning.format(max_detections), column.head.format(max_detections)
    title = f' title="{html.escape(meaning)}"' if meaning else ""
    order = ' aria-sort="ascending"' if column.key == "AP" else ""
    return f'<th scope="col" data-kind="{column.kind}"{title}{order}>{head}</th>'


def _cell(column: Column, value: Any) -> str:
    if column.kind == "text":
        return f'<th scope="row">{_name(value)}</th>'
    if value is None:
        return f'<td class="none" data-value="">{NONE}</td>'
    shown = f"{value:,}" if column.kind == "count" else fraction(value)
    return f'<td data-value="{value}">{_bar(value) if column.bar else ""}{shown}</td>'


def _name(name: str) -> str:
    """A name from the user's files; text from right to left stays within it."""
    return f"<bdi>{html.escape(name)}</bdi>"


def _bar(value: float | None) -> str:
    """A fraction as a bar; the policy of the page allows attributes of SVG, but none of style."""
    return f'<svg class="bar" aria-hidden="true"><rect width="{100 * (value or 0):.1f}%" height="100%"/></svg>'
