"""The check of a data set in Python."""

from __future__ import annotations

import logging
from typing import Any, Unpack

from dino_detector.api.calling import documented, in_python, progress, python_call, settings_from
from dino_detector.api.keywords import PathLike
from dino_detector.api.keywords.check_data import CheckDataKeywords
from dino_detector.commands.data import check_loaded, load_data
from dino_detector.config.commands import DataCheckSettings
from dino_detector.data.coco.findings import Problem, ranked
from dino_detector.data_check.check import Check
from dino_detector.data_check.report import WORST, payload, report_text
from dino_detector.plain_text import counted
from dino_detector.structures.html import html_block, html_table

log = logging.getLogger(__name__)


@documented(DataCheckSettings)
def check_data(data: PathLike, **settings: Unpack[CheckDataKeywords]) -> DataReport:
    """Check a data set before training: what it holds, and what is most worth fixing.

    Example::

        report = check_data("my_data")
        report.problems
        print(report)

    Args:
        data: folder or file of a data set: COCO, YOLO, Pascal VOC, labelme, CVAT, CreateML or Open Images.

    Returns:
        The findings. The function changes no file of the data set.

    Raises:
        InputError: a setting is wrong, or no annotation file can be read; a `ValueError` of one line.
    """
    with python_call():
        given = {"data": data, **settings}
        (resolved,) = settings_from((DataCheckSettings,), given, usage='check_data("my_data")')
        loaded, opened = load_data(resolved)
        with progress(opened, unit="images") as bar:
            return DataReport(check_loaded(loaded, resolved, advance=bar.update if opened else None))


class DataReport:
    """Results of the check of a data set; ``print(report)`` shows all of it."""

    def __init__(self, check: Check) -> None:
        self.check = check

    @property
    def problems(self) -> list[Problem]:
        """The problems by their harm, the worst first; each has its findings, and a finding has the ids."""
        return ranked(self.check.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return splits, classes and findings with all ids, as JSON values."""
        return payload(self.check)

    def __str__(self) -> str:
        return in_python(report_text(self.check))

    def __repr__(self) -> str:
        lines = [f"DataReport: {self._counts()}"]
        rows = self._rows()
        lines += [f"  {what}: {count}; {fix}" for what, count, fix in rows[:WORST]]
        lines += [] if rows else ["  nothing to fix was found"]
        rest = len(rows) - WORST
        return "\n".join(lines + ([f"  and {counted(rest, 'problem')} more; print() shows all"] if rest > 0 else []))

    def _repr_html_(self) -> str:
        classes = [(row.name, f"{sum(row.boxes):,}", f"{row.images:,}") for row in self.check.classes]
        rows = self._rows()
        found = html_table(("found", "how often", "remedy"), rows) if rows else "<p>nothing to fix was found</p>"
        return html_block(f"Data: {self._counts()}", found, html_table(("class", "boxes", "images"), classes))

    def _counts(self) -> str:
        """Return the images and boxes of each split in words."""
        parts = [
            f"{split.name} {counted(len(split.images.ids), 'image')}, {counted(split.num_boxes, 'box', 'boxes')}"
            for split in self.check.splits
        ]
        return "; ".join(parts)

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return title, number of cases and remedy of each problem."""
        return [
            (
                problem.kind.title,
                ", ".join(f"{finding.count:,} ({finding.split})" for finding in problem.findings),
                in_python(next((finding.fix for finding in problem.findings if finding.fix), problem.kind.fix)),
            )
            for problem in self.problems
        ]
