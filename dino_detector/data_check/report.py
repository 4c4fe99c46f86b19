"""Formats the results of the check as text for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import GROUPS, Finding, Problem, ranked
from dino_detector.data.coco.image_files import ImageFiles
from dino_detector.data_check.check import Check
from dino_detector.data_check.patches import PATCH
from dino_detector.data_check.pictures import UNSUPPORTED
from dino_detector.plain_text import percent, plain, table, wrapped

WORST = 3
"""number of problems at the end of the report"""
MOST_CLASSES = 20
"""number of classes above which the table shows only the first and the last"""
FIRST_CLASSES = 12
LAST_CLASSES = 6
EDGES = (1, 2, 4, 8, 16)
"""limits between the columns of the table of box sizes, in patches"""
PICTURE_KINDS = ("grey", "16-bit", "32-bit", "floating-point", "CMYK")
PICTURE_KINDS += ("with a palette", "with transparency", "turned by EXIF")


def sources_text(splits: Sequence[Split], files: Sequence[ImageFiles], unreadable: Sequence[Finding]) -> str:
    """Return name, format, annotations and folder of images of each split, and then the unreadable splits."""
    names = [*(split.name for split in splits), *(one.split for one in unreadable)]
    width = max(len(plain(name)) for name in names)
    lines = []
    for split, found in zip(splits, files, strict=True):
        where = f"{'images' if any(found.names) else 'none of its images'} in {split.images_dir}"
        if split.images_dir is None:
            where = "images not found; give their folder with --images"
        lines.append(f"{plain(split.name):{width}}  {split.format} {plain(split.path, 200)}, {plain(where, 200)}")
    lines += [f"{plain(one.split):{width}}  {plain(one.ids[0], 200)}, not readable" for one in unreadable]
    return "\n".join(lines)


def report_text(check: Check) -> str:
    """Return all sections, the problems most worth fixing last, without a final newline."""
    problems = ranked(check.findings)
    blocks = [_counts(check), _sizes(check), _classes(check), _kinds(check), _found(problems), _worst(check, problems)]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def payload(check: Check) -> dict[str, Any]:
    """Return the results as JSON values: counts, classes, and all findings with all ids, the most harmful first."""
    problems = ranked(check.findings)
    return {
        "splits": [
            {
                "name": split.name,
                "format": split.format,
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
    notes = []
    for split in check.splits:
        name, images, boxes = plain(split.name), len(split.images.ids), split.num_boxes
        image, crowd = split.boxes.image[split.boxes.image >= 0], split.boxes.crowd[split.boxes.image >= 0]
        most = np.bincount(image[~crowd], minlength=images).max(initial=0)
        empty = int((np.bincount(image, minlength=images) == 0).sum())
        cells = [f"{boxes:,}", f"{boxes / max(1, images):.1f}", f"{most:,}"]
        cells += [f"{empty:,} ({percent(empty / max(1, images))})", f"{split.boxes.crowd.sum():,}"]
        if not split.labelled:
            cells = ["none", *["-"] * 4]
            notes.append(f"{name} has no annotations: it is taken for a list of images to detect in.")
        rows.append([name, f"{images:,}", *cells, str(len(split.categories.ids))])
    return ["Counts", *table(rows), *notes]


def _sizes(check: Check) -> list[str]:
    limits = [f"<{EDGES[0]}", *(f"{low}-{high}" for low, high in pairwise(EDGES)), f"{EDGES[-1]}+"]
    rows = [["patches a side", *limits, "5 % below", "median", "5 % above"]]
    for split, sides in zip(check.splits, check.sides, strict=True):
        trained = sides[split.trained]
        if len(trained):
            counts = np.bincount(np.searchsorted(EDGES, trained, side="right"), minlength=len(limits))
            quantiles = [f"{side:.1f}" for side in np.quantile(trained, [0.05, 0.5, 0.95])]
            rows.append([plain(split.name), *map(percent, (counts / len(trained)).tolist()), *quantiles])
    note = f"A side is the square root of a box's area once its image is resized; a patch has {PATCH} pixels."
    return [f"Box sizes at {check.grid.words}", *table(rows), *wrapped(note)] if len(rows) > 1 else []


def _classes(check: Check) -> list[str]:
    classes, labelled = check.classes, [place for place, split in enumerate(check.splits) if split.labelled]
    if not classes or not labelled:
        return []
    total = max(1, sum(sum(row.boxes) for row in classes))
    names = [plain(split.name, 16) for split in check.splits]
    rows = [["class", *(f"{names[place]} boxes" for place in labelled), "share", "images", "median side"]]
    between = classes[FIRST_CLASSES:-LAST_CLASSES] if len(classes) > MOST_CLASSES else []
    for row in [*classes[:FIRST_CLASSES], *classes[-LAST_CLASSES:]] if between else classes:
        counts = [f"{row.boxes[place]:,}" for place in labelled]
        side = "-" if np.isnan(row.side) else f"{row.side:.1f}"
        rows.append([plain(row.name, 32), *counts, percent(sum(row.boxes) / total), f"{row.images:,}", side])
    lines = ["Classes", *table(rows)]
    if between:
        least, most = sum(between[-1].boxes), sum(between[0].boxes)
        lines.insert(2 + FIRST_CLASSES, f"... {len(between):,} more classes of {least:,} to {most:,} boxes ...")
    first = [row.boxes[labelled[0]] for row in classes if row.boxes[labelled[0]]]
    if len(first) > 1:
        first_split, times = plain(check.splits[labelled[0]].name), max(first) / min(first)
        lines.append(f"In {first_split} the largest class has {times:,.1f} times the boxes of the smallest.")
    return lines


def _kinds(check: Check) -> list[str]:
    if check.kinds is None:
        return wrapped("Images were not opened: damage, true sizes and look-alikes are not checked.")
    lines = ["Images"]
    for split, kinds in zip(check.splits, check.kinds, strict=True):
        special = ", ".join(f"{kinds[kind]:,} {kind}" for kind in (*PICTURE_KINDS, UNSUPPORTED) if kinds[kind])
        opened = kinds.total() - kinds["turned by EXIF"]
        lines.append(f"{plain(split.name)}: {opened:,} opened" + (f", of these {special}" if special else ""))
    return lines


def _found(problems: Sequence[Problem]) -> list[str]:
    lines = ["Found"] if problems else []
    for group in GROUPS:
        of_group = [problem for problem in problems if problem.kind.group == group]
        lines += [f"{group}:"] if of_group else []
        for problem in of_group:
            lines += wrapped(f"{problem.kind.title}: {_places(problem.findings, ': {}')}", first="  - ", then="    ")
    return lines


def _worst(check: Check, problems: Sequence[Problem]) -> list[str]:
    lines = ["Most worth fixing"]
    for number, problem in enumerate(problems[:WORST], start=1):
        fix = next((finding.fix for finding in problem.findings if finding.fix), problem.kind.fix)
        stops = " Training does not start before that." if problem.stops else ""
        places = _places(problem.findings, " ({})")
        text = f"{problem.kind.title}: {places}{'' if places.endswith('.') else '.'} {fix[:1].upper()}{fix[1:]}.{stops}"
        lines += wrapped(text[:1].upper() + text[1:], first=f"{number}. ", then="   ")
    if not any(split.labelled for split in check.splits) and not problems:
        lines.append("Nothing can be trained on or evaluated: there are no annotations.")
    elif len(problems) < WORST:
        lines.append("Nothing else was found." if problems else "Nothing: no mistake was found.")
    return lines


def _places(findings: Sequence[Finding], around: str) -> str:
    return "; ".join(f"{plain(finding.split)} {finding.described(around)}" for finding in findings)
