"""Data sets in Python: the check, recommended settings, and conversion."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, Unpack

from dino_detector.api.calling import documented, in_python, progress, python_call, settings_from, short_errors
from dino_detector.api.keywords import PathLike
from dino_detector.api.keywords.check_data import CheckDataKeywords
from dino_detector.commands.data import check_loaded, load_data
from dino_detector.config.commands import ConvertSettings, DataCheckSettings, RecommendSettings
from dino_detector.data.coco.findings import Problem, ranked
from dino_detector.data_check.check import Check
from dino_detector.data_check.report import WORST, payload, report_text
from dino_detector.plain_text import counted
from dino_detector.structures.html import html_block, html_table

if TYPE_CHECKING:
    from dino_detector.data.conversion.conversion import Conversion
    from dino_detector.data_check.recommendation import Recommendation

log = logging.getLogger(__name__)


@documented(DataCheckSettings)
def check_data(data: PathLike, **settings: Unpack[CheckDataKeywords]) -> DataReport:
    """Check a data set before training: count its images and boxes, and find the mistakes most worth fixing.

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


@short_errors
def recommend(data: PathLike, *, device: str = "auto") -> Recommendation:
    """Choose settings for a data set and this machine, each with its reason.

    Example::

        found = recommend("my_data")
        print(found)
        train(**found.settings)

    Args:
        data: folder or file of a data set from any labelling tool.
        device: device of the training: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Returns:
        The settings with their reasons; ``found.yaml`` is the text of a settings file. No file is written.

    Raises:
        InputError: there is no training split or no box to train on; a `ValueError` of one line.
    """
    from dino_detector.data_check.recommendation import recommend as recommend_for

    with python_call():
        given = {"data": data, "device": device}
        (resolved,) = settings_from((RecommendSettings,), given, usage='recommend("my_data")')
        return recommend_for(resolved.data, device=resolved.device)


@short_errors
def convert(
    data: PathLike,
    output: PathLike,
    *,
    to: Literal["coco", "yolo", "voc", "labelme", "cvat"],
    pictures: Literal["copy", "link", "none"] = "copy",
) -> Conversion:
    """Write a data set of any labelling tool in the format of another tool, with its splits and pictures.

    Example::

        print(convert("my_data", "my_data_yolo", to="yolo").text())

    Args:
        data: folder or file of a data set; it is not changed.
        output: new folder for the converted data set; an earlier conversion there is moved aside.
        to: format to write.
        pictures: copy the pictures; link them, which takes no space; or leave them out.

    Returns:
        The number of images and boxes, and notes about everything that the format can't hold.

    Raises:
        InputError: the data can't be read, or ``output`` holds other files or overlaps ``data``.
    """
    from dino_detector.data.conversion.conversion import convert as convert_to

    with python_call():
        given = {"data": data, "output": output, "to": to, "pictures": pictures}
        (resolved,) = settings_from((ConvertSettings,), given, usage='convert("my_data", "my_yolo", to="yolo")')
        return convert_to(resolved.data, to=resolved.to, output=resolved.output, pictures=resolved.pictures)


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
