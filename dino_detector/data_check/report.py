"""Formats the results of the check as text for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import GROUPS, STOPS, Finding, Problem, ranked
from dino_detector.data.coco.image_files import ImageFiles
from dino_detector.data_check.check import Check
from dino_detector.data_check.classes import ClassRow
from dino_detector.data_check.patches import EDGES, size_row
from dino_detector.plain_text import joined, percent, plain, table, wrapped

WORST = 3
"""number of problems at the end of the report"""
MOST_CLASSES = 20
"""number of classes above which the table shows only the first and the last"""
FIRST_CLASSES = 12
LAST_CLASSES = 6
KINDS_IN_WORDS = {
    "grey": "grey",
    "16-bit": "16-bit",
    "32-bit": "32-bit",
    "float": "floating-point",
    "CMYK": "CMYK",
    "palette": "with a palette",
    "alpha": "with transparency",
    "turned": "turned by EXIF",
    "unsupported": "with negative or NaN values",
}


def sources_text(splits: Sequence[Split], files: Sequence[ImageFiles]) -> str:
    """Return the split, the annotation file and the folder of images of each source."""
    width = max(len(plain(split.name)) for split in splits)
    lines = []
    for split, found in zip(splits, files, strict=True):
        where = "images not found; give their folder with --images"
        if split.images_dir is not None:
            where = f"images in {split.images_dir}"
            if not any(found.names):
                where = f"none of its images in {split.images_dir}"
        lines.append(f"{plain(split.name):{width}}  {plain(split.path, 200)}, {plain(where, 200)}")
    return "\n".join(lines)


def report_text(check: Check) -> str:
    """Return all sections, the problems most worth fixing last, without a final newline."""
    problems = ranked(check.findings)
    blocks = [
        _counts(check),
        _sizes(check),
        _classes(check.classes, check.splits),
        _kinds(check),
        _found(problems),
        _worst(problems, nothing=not any(split.labelled for split in check.splits)),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def payload(check: Check) -> dict[str, Any]:
    """Return the results as JSON values: counts, classes, and all findings with all ids, the most harmful first."""
    problems = ranked(check.findings)
    return {
        "splits": [
            {
                "name": split.name,
                "annotations": str(split.path),
                "images_dir": None if split.images_dir is None else str(split.images_dir),
                "images": len(split.images.ids),
                "boxes": split.num_boxes,
            }
            for split in check.splits
        ],
        "classes": [
            {
                "name": row.name,
                "boxes": {split.name: count for split, count in zip(check.splits, row.boxes, strict=True)},
                "images": row.images,
                "median_side_in_patches": None if np.isnan(row.side) else round(row.side, 3),
            }
            for row in check.classes
        ],
        "most_worth_fixing": [problem.kind.name for problem in problems[:WORST]],
        "findings": [
            {
                "kind": finding.kind,
                "what": problem.kind.title,
                "split": finding.split,
                "count": finding.count,
                "of": finding.total,
                "unit": finding.unit,
                "harm": round(problem.harm, 4),
                "note": finding.note,
                "fix": finding.fix or problem.kind.fix,
                "ids": list(finding.ids),
            }
            for problem in problems
            for finding in problem.findings
        ],
    }


def _counts(check: Check) -> list[str]:
    rows = [["", "images", "boxes", "per image", "most", "without boxes", "crowd regions", "classes"]]
    for split in check.splits:
        images, boxes, known = len(split.images.ids), split.num_boxes, split.boxes.image >= 0
        per_image = np.bincount(split.boxes.image[known & ~split.boxes.crowd], minlength=images)
        empty = int((np.bincount(split.boxes.image[known], minlength=images) == 0).sum())
        numbers = [f"{boxes / max(1, images):.1f}", f"{per_image.max(initial=0):,}"]
        numbers += [f"{empty:,} ({percent(empty / max(1, images))})", f"{split.boxes.crowd.sum():,}"]
        if not split.labelled:
            numbers = ["-"] * 4
        cells = [f"{images:,}", f"{boxes:,}" if split.labelled else "none", *numbers]
        rows.append([plain(split.name), *cells, str(len(split.categories.ids))])
    lists = [plain(split.name) for split in check.splits if not split.labelled]
    notes = [f"{name} has no annotations: it is taken for a list of images to detect in." for name in lists]
    return ["Counts", *table(rows), *notes]


def _sizes(check: Check) -> list[str]:
    limits = [f"<{EDGES[0]}", *(f"{low}-{high}" for low, high in pairwise(EDGES)), f"{EDGES[-1]}+"]
    rows = [["patches a side", *limits, "5 % below", "median", "5 % above"]]
    for split, sides in zip(check.splits, check.sides, strict=True):
        if split.trained.any():
            trained = sides[split.trained]
            row = size_row(trained)
            ends = np.quantile(trained, [0.05, 0.95])
            numbers = [f"{ends[0]:.1f}", f"{row.median:.1f}", f"{ends[1]:.1f}"]
            rows.append([plain(split.name), *map(percent, row.shares), *numbers])
    if len(rows) == 1:
        return []
    return [
        f"Box sizes at {check.grid.words}",
        *table(rows),
        *wrapped("A side is the square root of a box's area once its image is resized; a patch has 14 pixels."),
    ]


def _classes(classes: Sequence[ClassRow], splits: Sequence[Split]) -> list[str]:
    labelled = [position for position, split in enumerate(splits) if split.labelled]
    if not classes or not labelled:
        return []
    totals = [sum(row.boxes[position] for row in classes) for position in range(len(splits))]
    rows = [["class", *(f"{plain(splits[p].name, 16)} boxes" for p in labelled), "share", "images", "median side"]]
    shown = list(classes)
    if len(classes) > MOST_CLASSES:
        shown = [*classes[:FIRST_CLASSES], *classes[-LAST_CLASSES:]]
    for row in shown:
        counts = [f"{row.boxes[p]:,}" for p in labelled]
        share = percent(sum(row.boxes) / max(1, sum(totals)))
        side = "-" if np.isnan(row.side) else f"{row.side:.1f}"
        rows.append([plain(row.name, 32), *counts, share, f"{row.images:,}", side])
    lines = table(rows)
    if len(shown) < len(classes):
        between = classes[FIRST_CLASSES:-LAST_CLASSES]
        least, most = sum(between[-1].boxes), sum(between[0].boxes)
        lines.insert(1 + FIRST_CLASSES, f"... {len(between):,} more classes of {least:,} to {most:,} boxes ...")
    first = [row.boxes[labelled[0]] for row in classes if row.boxes[labelled[0]]]
    if len(first) > 1:
        first_split, times = plain(splits[labelled[0]].name), max(first) / min(first)
        lines.append(f"In {first_split} the largest class has {times:,.1f} times the boxes of the smallest.")
    return ["Classes", *lines]


def _kinds(check: Check) -> list[str]:
    if check.kinds is None:
        return [*wrapped("Images were not opened: damage, true sizes and look-alikes are not checked.")]
    lines = []
    for split, kinds in zip(check.splits, check.kinds, strict=True):
        opened = sum(count for kind, count in kinds.items() if kind != "turned")
        special = joined(f"{kinds[kind]:,} {words}" for kind, words in KINDS_IN_WORDS.items() if kinds[kind])
        lines.append(f"{plain(split.name)}: {opened:,} opened" + (f", of these {special}" if special else ""))
    return ["Images", *lines]


def _found(problems: Sequence[Problem]) -> list[str]:
    if not problems:
        return []
    lines = ["Found"]
    for group in GROUPS:
        of_group = [problem for problem in problems if problem.kind.group == group]
        lines += [f"{group}:"] if of_group else []
        for problem in of_group:
            lines += wrapped(f"{problem.kind.title}: {_places(problem.findings, ': {}')}", first="  - ", then="    ")
    return lines


def _worst(problems: Sequence[Problem], *, nothing: bool) -> list[str]:
    """Return the most harmful problems; ``nothing`` means that there are no annotations to judge."""
    if not problems:
        none = "Nothing can be trained on or evaluated: there are no annotations."
        return ["Most worth fixing", none if nothing else "Nothing: no mistake was found."]
    lines = ["Most worth fixing"]
    for number, problem in enumerate(problems[:WORST], start=1):
        fix = next((finding.fix for finding in problem.findings if finding.fix), problem.kind.fix)
        stopped = any(finding.effect == STOPS for finding in problem.findings)
        stops = " Training does not start before that." if stopped else ""
        text = f"{problem.kind.title}: {_places(problem.findings, ' ({})')}. {fix[:1].upper()}{fix[1:]}.{stops}"
        lines += wrapped(text[:1].upper() + text[1:], first=f"{number}. ", then="   ")
    if len(problems) < WORST:
        lines.append("Nothing else was found.")
    return lines


def _places(findings: Sequence[Finding], around: str) -> str:
    return "; ".join(f"{plain(finding.split)} {finding.described(around)}" for finding in findings)
