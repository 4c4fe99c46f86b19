"""Mistakes in a data set: what was found, whether training starts with it, and how much it harms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dino_detector.data.coco.finding_kinds import KINDS, STOPS, Kind
from dino_detector.plain_text import listed, percent, plain

LONGEST_ID = 100
"""columns of an id or a name in a message"""
LEAST_SHARE_OF_A_REFUSAL = 0.25
"""lower bound on the share in `Problem.harm` of a mistake that keeps training from starting"""


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
        fix: the remedy, where it depends on the data; empty stands for `Kind.fix`.
        weight: factor on `Kind.severity`.
        training: the effect on training, where it depends on the data; None stands for `Kind.training`.
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
        """What training does about it, see `Kind.training`."""
        return KINDS[self.kind].training if self.training is None else self.training

    @property
    def share(self) -> float:
        """Share of the data that is affected, 0 to 1."""
        return min(1.0, self.count / max(1, self.total))

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
    def harm(self) -> float:
        """How much is gained by fixing it: severity x the square root of the share that is affected, 0 to 1.

        The severity is `Kind.severity`: 1 for a label that teaches something wrong or a metric that can't be trusted,
        0.05 for untidiness. The split with the most harm counts, since a small validation set that is wrong throughout
        spoils every metric. The square root is taken because the first few per cent do most of the harm: a tenth of the
        validation images in the training set makes a metric as useless as a half. A mistake that keeps training from
        starting counts for at least a quarter of the data, however rare it is.
        """
        return max(harm_of(finding) for finding in self.findings)


def harm_of(finding: Finding) -> float:
    """The harm of a kind in one split; see `Problem.harm`."""
    kind = KINDS[finding.kind]
    share = max(finding.share, LEAST_SHARE_OF_A_REFUSAL) if finding.effect == STOPS else finding.share
    return kind.severity * finding.weight * math.sqrt(share)


def ranked(findings: Iterable[Finding]) -> list[Problem]:
    """Findings by kind, the most harmful first; equal ones in the order of `KINDS`."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.count:
            by_kind.setdefault(finding.kind, []).append(finding)
    order = {name: position for position, name in enumerate(KINDS)}
    problems = [
        Problem(KINDS[name], tuple(sorted(members, key=harm_of, reverse=True)))
        for name, members in sorted(by_kind.items(), key=lambda item: order[item[0]])
    ]
    return sorted(problems, key=lambda problem: -problem.harm)
