"""What the check found, as text for a terminal."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np

from dino_detector.analysis.tables import aligned, cut
from dino_detector.inspection.check import Checked
from dino_detector.inspection.classes import class_rows
from dino_detector.inspection.findings import Finding, Problem, harm_of
from dino_detector.inspection.patches import EDGES, size_row
from dino_detector.inspection.split import Split

MOST_CLASSES = 20
"""a table of more classes shows the first and the last ten"""
MOST_IDS = 3
"""ids that a line names"""
LONGEST_ID = 60
WORTH_FIXING = 3


def summary(checked: Checked) -> str:
    """Counts, box sizes, classes, all findings by what they are about, and the three most worth fixing."""
    blocks = [_counts(checked)]
    if any(split.trained.any() for split in checked.splits):
        blocks += [_sizes(checked), _classes(checked)]
    if checked.kinds is not None:
        blocks.append(_pictures(checked.splits, checked.kinds))
    blocks += _findings(checked.problems)
    blocks.append(_worth_fixing(checked.problems))
    return "\n\n".join("\n".join(lines) for lines in blocks)


def plain(text: object) -> str:
    """Text of a file without control characters, which a terminal would obey, and not too long."""
    shown = "".join(char if unicodedata.category(char)[0] != "C" else "?" for char in str(text))
    return shown if len(shown) <= LONGEST_ID else f"{shown[: LONGEST_ID - 3]}..."


def _counts(checked: Checked) -> list[str]:
    rows = [["split", "images", "empty", "boxes", "crowds", "classes", "boxes per image"]]
    for split in checked.splits:
        per_image = np.bincount(split.boxes.image[split.trained], minlength=len(split.images.ids))
        spread = f"{np.median(per_image):g}, at most {per_image.max()}" if split.labelled and len(per_image) else "-"
        rows.append(
            [
                plain(split.name),
                f"{len(split.images.ids):,}",
                f"{int((per_image == 0).sum()):,}" if split.labelled else "-",
                f"{int((split.usable & ~split.boxes.crowd).sum()):,}",
                f"{int(split.boxes.crowd.sum()):,}",
                f"{len(split.categories.names):,}",
                spread,
            ]
        )
    places = []
    for split in checked.splits:
        images = f"images in {split.images_dir}" if split.images_dir else "images not found"
        places.append(f"{plain(split.name)}: {split.path}, {images}")
    return [*places, "", *aligned(rows, rules=(1,))]


def _sizes(checked: Checked) -> list[str]:
    bounds = ["< 1", *(f"{low}-{high}" for low, high in pairwise(EDGES)), f"> {EDGES[-1]}"]
    rows = [["patches", *bounds, "median"]]
    for split, sides in zip(checked.splits, checked.sides, strict=True):
        if split.trained.any():
            row = size_row(sides[split.trained])
            rows.append([plain(split.name), *(f"{share:.1%}" for share in row.shares), f"{row.median:.1f}"])
    return [f"Side of the boxes in patches, at {checked.grid.words}", *aligned(rows, rules=(1,))]


def _classes(checked: Checked) -> list[str]:
    labelled = [row for row, split in enumerate(checked.splits) if split.labelled]
    splits = [checked.splits[row] for row in labelled]
    classes = class_rows(splits, [checked.sides[row] for row in labelled])
    total = sum(sum(row.boxes) for row in classes)
    table = [
        [
            cut(plain(row.name)),
            *(f"{count:,}" for count in row.boxes),
            f"{sum(row.boxes) / total:.1%}",
            f"{row.images:,}",
            "-" if math.isnan(row.side) else f"{row.side:.1f}",
        ]
        for row in classes
    ]
    half = MOST_CLASSES // 2
    hidden = len(table) - MOST_CLASSES
    if hidden > 0:
        gap = [f"({hidden} more)", *[""] * (len(table[0]) - 1)]
        table = [*table[:half], gap, *table[-half:]]
    names = [plain(split.name) for split in splits]
    counted = [sum(row.boxes) for row in classes if sum(row.boxes)]
    balance = f"; the largest has {max(counted) / min(counted):,.0f} times the boxes of the smallest"
    title = f"Boxes of {len(classes):,} classes{balance if len(counted) > 1 else ''}"
    return [title, *aligned([["class", *names, "share", "images", "side"], *table], rules=(1,))]


def _pictures(splits: list[Split], kinds: list[Counter[str]]) -> list[str]:
    lines = []
    for split, counts in zip(splits, kinds, strict=True):
        turned = counts["turned"]
        listed = [f"{count:,} {kind}" for kind, count in counts.most_common() if kind != "turned" and count]
        if listed:
            note = f"; {turned:,} turned by their EXIF orientation, which training follows" if turned else ""
            lines.append(f"  {plain(split.name)}: {', '.join(listed)}{note}")
    return ["Pictures that were opened", *lines]


def _findings(problems: list[Problem]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for problem in problems:
        lines = groups.setdefault(problem.kind.group, [problem.kind.group])
        lines.append(f"  {problem.kind.title}" + (" (training refuses them)" if problem.kind.refused else ""))
        lines += [f"    {_where(finding)}" for finding in problem.findings]
    return list(groups.values())


def _where(finding: Finding) -> str:
    """How many in which split, of how many, and the first ids."""
    text = f"{plain(finding.split)}: {finding.count:,} of {finding.total:,} {finding.unit}"
    if finding.note:
        text += f", {finding.note}"
    if finding.ids:
        shown = ", ".join(plain(one) for one in finding.ids[:MOST_IDS])
        text += f": {shown}" + (", ..." if len(finding.ids) > MOST_IDS else "")
    return text


def _worth_fixing(problems: list[Problem]) -> list[str]:
    if not problems:
        return ["Most worth fixing: nothing was found"]
    lines = ["Most worth fixing"]
    for number, problem in enumerate(problems[:WORTH_FIXING], start=1):
        worst = max(problem.findings, key=harm_of)
        lines.append(f"  {number}. {problem.kind.title}, {_where(worst)}")
        lines.append(f"     -> {worst.fix or problem.kind.fix}")
    if len(problems) < WORTH_FIXING:
        lines.append("  Nothing else was found")
    return lines
