"""Mistakes in a data set: every kind, what was found, the effect on training, and the harm."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.plain_text import listed, percent, plain

STOPS, WARNS = "stops", "warns"
"""training refuses to start; training logs a warning, because the mistake changes the training data"""
LONGEST_ID = 100
"""columns of an id or a name in a message"""
LEAST_SHARE_OF_A_REFUSAL = 0.25
"""lower bound on the share in `Problem.harm` of a mistake that keeps training from starting"""


class Kind(NamedTuple):
    """A kind of mistake, a row of ``finding_kinds.csv``.

    Attributes:
        group: the heading in the report.
        severity: harm to a data set that is affected throughout, 0 to 1.
        training: the effect on training: `STOPS`, `WARNS`, or empty for none.
        title: the description, which stands before a number.
    """

    name: str
    group: str
    severity: float
    training: str
    title: str
    fix: str


_ROWS = csv.DictReader(Path(__file__).with_name("finding_kinds.csv").read_text("utf-8").splitlines())
KINDS = {row["name"]: Kind(**(row | {"severity": float(row["severity"])})) for row in _ROWS}
"""every kind of mistake, by its name"""
GROUPS = ("Annotation files", "Boxes", "Classes", "Images", "Duplicates", "Leakage between splits")
"""headings of the report, in their order"""


@dataclass(frozen=True)
class Finding:
    """One kind of mistake in one split.

    Attributes:
        kind: key of `KINDS`.
        split: the split with the mistake; ``val in train`` for images that two splits share.
        count: affected boxes, images, classes or files.
        total: all boxes, images, classes or files of the split.
        unit: the word for what ``count`` and ``total`` count, such as ``boxes``.
        ids: ids or names of all affected entries, as the file has them.
        note: details for the message, such as ``by up to 12 pixels``.
        fix: the remedy, if it depends on the data; empty stands for `Kind.fix`.
        weight: factor on `Kind.severity`.
        training: the effect on training, if it depends on the data; None stands for `Kind.training`.
    """

    kind: str
    split: str
    count: int
    total: int
    unit: str
    ids: Sequence[Any] = ()
    note: str = ""
    fix: str = ""
    weight: float = 1.0
    training: str | None = None

    @property
    def effect(self) -> str:
        """The effect on training, see `Kind.training`."""
        return KINDS[self.kind].training if self.training is None else self.training

    @property
    def share(self) -> float:
        """Share of the data that is affected, 0 to 1."""
        return min(1.0, self.count / max(1, self.total))

    @property
    def harm(self) -> float:
        """Harm in this split, see `Problem.harm`."""
        share = max(self.share, LEAST_SHARE_OF_A_REFUSAL) if self.effect == STOPS else self.share
        return KINDS[self.kind].severity * self.weight * math.sqrt(share)

    def described(self, around: str = " ({})") -> str:
        """Return the count, the note and the first ids, such as ``1 of 12 boxes (id 4)``; ``around`` frames the ids."""
        share = f" ({percent(self.share)})" if self.total > 20 else ""
        note = f", {plain(self.note, 200)}" if self.note else ""
        numbered = "id" if len(self.ids) == 1 else "ids"
        what = f"{numbered} " if self.ids and isinstance(self.ids[0], int) else ""
        ids = around.format(what + listed(self.ids, longest=LONGEST_ID)) if self.ids else ""
        return f"{self.count:,} of {self.total:,} {self.unit}{share}{note}{ids}"

    def sentence(self) -> str:
        """Return the finding in one line for a message: its title, the count, and the fix."""
        kind = KINDS[self.kind]
        return f"{kind.title}: {self.described()}; {self.fix or kind.fix}"


@dataclass(frozen=True)
class Problem:
    """The findings of one kind in all splits together, the most harmful first."""

    kind: Kind
    findings: tuple[Finding, ...]

    @property
    def stops(self) -> bool:
        """Whether training does not start."""
        return any(finding.effect == STOPS for finding in self.findings)

    @property
    def harm(self) -> float:
        """The benefit of a fix: severity x the square root of the affected share, 0 to 1.

        The severity is `Kind.severity`: 1 for a label that teaches something wrong or a metric that can't be trusted,
        0.05 for untidiness. The split with the most harm counts, because a small validation set that is wrong
        throughout spoils every metric. The square root is taken because the first few per cent do most of the harm: a
        tenth of the validation images in the training set makes a metric as useless as a half. A mistake that keeps
        training from starting counts for at least a quarter of the data, however rare it is.
        """
        return max(finding.harm for finding in self.findings)


def ranked(findings: Iterable[Finding]) -> list[Problem]:
    """Group findings by kind, the most harmful kind first; equally harmful kinds in the order of `KINDS`."""
    by_kind: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in findings:
        if finding.count:
            by_kind[finding.kind].append(finding)
    problems = [
        Problem(KINDS[kind], tuple(sorted(members, key=lambda finding: -finding.harm)))
        for kind, members in by_kind.items()
        if members
    ]
    return sorted(problems, key=lambda problem: -problem.harm)
