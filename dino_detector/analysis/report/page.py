"""A report as one HTML file, which opens from disk, requests nothing from a network, and runs only its own code.

The twelve numbers, the sentences and the table of classes are HTML and need no JavaScript. The scripts in ``assets/``
draw the rest from the payload, which is in the page as JSON.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.analysis.gallery import MOST_DETECTIONS
from dino_detector.analysis.html_file import asset, content_policy, write_html
from dino_detector.analysis.wording import (
    AXES,
    DASH,
    MISTAKES,
    Payload,
    calibration_caption,
    comparison_verdict,
    confusion_caption,
    costs_caption,
    flipped_captions,
    for_script,
    fraction,
    metric_meanings,
    threshold_text,
)
from dino_detector.plain_text import counted

STYLES = ("palette.css", "layout.css", "controls.css", "charts.css", "pictures.css", "media.css")
"""in the order in which they join to one style; later rules win"""

SCRIPTS = (
    *("elements.js", "numbers.js", "mistakes.js", "tables.js", "charts.js", "errors.js", "boxes.js", "viewer.js"),
    *("gallery.js", "curves.js", "confusion.js", "calibration.js", "comparison.js", "main.js"),
)
"""in the order in which they join to one script"""

UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""JSON escapes of characters that could end a script element or a line of a script"""


SECTIONS = {
    "errors": "kinds of mistakes",
    "gallery": "worst images",
    "curves": "precision and recall",
    "confusion": "confusions",
    "calibration": "calibration",
    "scores": "scores",
}
"""parts that may be absent, with their names in a note"""


def write_report(payload: Payload, path: Path) -> None:
    """Write the page of a payload to ``path``, whole or not at all, and make the folder.

    Markup in names of classes and files is shown as text.

    Raises:
        ValueError: a number of the payload is not finite, which JSON can't express.
    """
    write_html(path, page(payload))


def page(payload: Payload) -> str:
    """Return the HTML of a payload; see `write_report`."""
    style = "\n".join(asset(__package__, name) for name in STYLES)
    code = "\n".join(asset(__package__, name) for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\nconst WORDS = {embedded(for_script())};\n{code}\n}})();'
    parts = {
        "policy": content_policy(style, script),
        "style": style,
        "script": script,
        "payload": embedded(payload),
        **_essentials(payload),
        **{f"axis_{name}": html.escape(text) for name, text in AXES.items()},
    }
    # One pass, so that a placeholder in a title is not replaced.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], asset(__package__, "page.html"))


def embedded(payload: Payload) -> str:
    """Return JSON in which no text can end the script element."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda character: UNSAFE[character[0]], text)


class Column(NamedTuple):
    """A column of the class table: its key in the payload, its head, and the meaning of its numbers."""

    key: str
    head: str
    meaning: str = ""
    kind: str = "fraction"
    bar: bool = False


def _essentials(payload: Payload) -> dict[str, str]:
    """Return the HTML of each part by its name in ``page.html``; empty for an absent part."""
    nouns = {"images": "image", "boxes": "object", "detections": "detection"}
    counts = [counted(payload[key], noun) for key, noun in nouns.items()]
    captions = {
        "errors": costs_caption,
        "confusion": confusion_caption,
        "calibration": _calibration,
        "gallery": _gallery,
        "comparison": comparison_verdict,
    }
    comparison = payload["comparison"] or {"title": "", "baseline_title": "", "flipped": None}
    flipped = comparison["flipped"]
    return {
        **{key: html.escape(payload[key]) for key in ("title", "subtitle", "created")},
        "counts": html.escape(" · ".join([*counts, counted(len(payload["classes"]), "class", "classes")])),
        "sentences": " ".join(filter(None, [_costs(payload["errors"]), _lowest_class(payload)])),
        "headline": _headline(payload),
        "class_note": _class_note(payload),
        "class_table": _class_table(payload),
        "missing_parts": _missing_parts(payload),
        **{
            f"caption_{name}": "" if payload[name] is None else html.escape(write(payload[name]))
            for name, write in captions.items()
        },
        "caption_runs": f"{_name(comparison['title'])} against the baseline {_name(comparison['baseline_title'])}.",
        "caption_flipped": "" if flipped is None else html.escape(" ".join(flipped_captions(flipped))),
    }


def _calibration(calibration: Payload) -> str:
    """Return the calibration error, and whether scores are too high or too low."""
    caption = calibration_caption(calibration)
    filled = [row for row in calibration["bins"] if row["count"]]
    if not filled or calibration["error"] < 0.0005:
        return caption
    excess = sum(row["count"] * (row["score"] - row["precision"]) for row in filled)
    high, fewer = ("high", "fewer") if excess > 0 else ("low", "more")
    return (
        f"{caption} On the whole, scores are too {high}: {fewer} detections are correct than the scores say. The table "
        "of classes has the best threshold of each class."
    )


def _gallery(gallery: Payload) -> str:
    """Return which images the gallery has, and the rule for a missed object."""
    total, shown = gallery["total"], len(gallery["images"])
    which = f"The {shown:,} worst are here" if shown < total else "All are here"
    return (
        f"{counted(total, 'image has', 'images have')} a mistake. {which}, the worst first. Each image shows at "
        f"most {MOST_DETECTIONS} detections, with a score of {gallery['lowest']:g} or more. An object is missed if no "
        "correct detection of it reaches the threshold. A missed object has no score, so it shows only if the range of "
        "scores is 0 to 1."
    )


def _costs(errors: Payload | None) -> str:
    """Return the kinds of mistakes that cost most."""
    if errors is None or errors["AP50"] is None:
        return ""
    costs = sorted(((kind["cost"] or 0.0, MISTAKES[kind["key"]].many) for kind in errors["types"]), reverse=True)
    (most, worst), (second, runner_up) = costs[:2]
    if most <= 0:
        return "No kind of mistake costs any AP50."
    sentence = f"{worst.capitalize()} cost most: {fraction(most)} of AP50"
    return f"{sentence}, then {runner_up}: {fraction(second)}." if second > 0 else f"{sentence}."


def _lowest_class(payload: Payload) -> str:
    measured = [row for row in payload["classes"] if row["AP"] is not None]
    if not measured:
        return "There is no ground truth to measure against."
    if len(measured) == 1:
        return ""
    row = min(measured, key=lambda row: row["AP"])
    objects = counted(row["boxes"], "object")
    return f"The class {_name(row['name'])} has the lowest AP: {fraction(row['AP'])} on {objects}."


def _headline(payload: Payload) -> str:
    """Return AP in large and the other COCO numbers with their meanings."""
    metrics, meanings = payload["metrics"], metric_meanings(payload["max_detections"])
    groups = ""
    for title, letters in (("Average precision", "AP"), ("Average recall", "AR")):
        rows = ""
        for key in (key for key in meanings if key.startswith(letters)):
            number = f"<b>{fraction(metrics[key])}</b> {_bar(metrics[key])}<span>{meanings[key]}</span>"
            rows += f"<div><dt>{key}</dt><dd>{number}</dd></div>"
        groups += f'<div class="metrics"><h3>{title}</h3><dl>{rows}</dl></div>'
    large = f'<p class="large"><strong>{fraction(metrics["AP"])}</strong> <span>AP, {meanings["AP"]}</span></p>'
    return large + groups


def _class_table(payload: Payload) -> str:
    """Return a table row for each class, by rising AP, and classes without ground truth last.

    Columns without any number are left out.
    """
    meanings, recall = metric_meanings(payload["max_detections"]), f"AR{payload['max_detections']}"
    columns = [
        Column("name", "class", kind="text"),
        *(Column(name, name, meanings[name], bar=name == "AP") for name in meanings if name.startswith("AP")),
        Column("AR100", recall, f"recall with {meanings[recall]}"),
        Column("boxes", "boxes", "objects in the ground truth", kind="count"),
        Column("F1", "F1", "the best F1 at IoU 0.50 over all thresholds", bar=True),
        Column("threshold", "thresh\N{SOFT HYPHEN}old", "the score that gives the best F1"),
        Column("precision", "preci\N{SOFT HYPHEN}sion", "at that threshold"),
        Column("recall", "recall", "at that threshold"),
    ]
    classes = sorted(payload["classes"], key=lambda row: (row["AP"] is None, row["AP"] or 0.0))
    columns = [column for column in columns if any(row[column.key] is not None for row in classes)]
    heads = "".join(map(_head, columns))
    rows = "".join(f"<tr>{''.join(_cell(column, row[column.key]) for column in columns)}</tr>" for row in classes)
    return f'<table id="class-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _class_note(payload: Payload) -> str:
    """Return how to read the class table."""
    dash = f"{DASH} means that there is no such ground truth."
    if all(row["threshold"] is None for row in payload["classes"]):
        return dash
    best = (
        "Threshold is the score that gives the class its best F1 at IoU 0.50. Precision and recall are measured there."
    )
    return f"{best} {dash}"


def _missing_parts(payload: Payload) -> str:
    """Return notes on the parts that the report lacks and how to get them."""
    notes = []
    if missing := [name for key, name in SECTIONS.items() if payload[key] is None]:
        notes.append(
            f"Not in this report: {', '.join(missing)}. "
            "They need detections, annotations and at least one annotated box; see --help."
        )
    if payload["comparison"] is None:
        notes.append("There is no comparison: a baseline run is needed for this; see --help.")
    return "".join(f'<p class="note">{note}</p>' for note in notes)


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
    shown = threshold_text(value) if column.key == "threshold" else shown
    return f'<td data-value="{value}">{_bar(value) if column.bar else ""}{shown}</td>'


def _name(name: str) -> str:
    """Return a name from the user's files, in an element that contains right-to-left text."""
    return f"<bdi>{html.escape(name)}</bdi>"


def _bar(value: float | None) -> str:
    """Return a fraction as an SVG bar: the page's policy forbids style attributes."""
    return f'<svg class="bar" aria-hidden="true"><rect width="{100 * (value or 0):.1f}%" height="100%"/></svg>'
