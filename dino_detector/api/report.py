"""Evaluation and analysis in Python, and their results."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from dino_detector.api.calling import documented, in_memory, python_call, settings_from
from dino_detector.api.keywords import PathLike
from dino_detector.api.keywords.analyze import AnalyzeKeywords
from dino_detector.api.keywords.evaluate import EvaluateKeywords
from dino_detector.commands.analyze import Analyzed
from dino_detector.commands.analyze import analyze as analyze_with
from dino_detector.commands.evaluate import EVALUATION_HELP, Evaluated, evaluate_and_write
from dino_detector.config import Config
from dino_detector.config.commands import AnalyzeSettings
from dino_detector.errors import InputError
from dino_detector.structures.html import html_block, html_table
from dino_detector.structures.metrics import ClassMetrics, CocoMetrics
from dino_detector.terminal import in_notebook

log = logging.getLogger(__name__)

HEIGHT = 700
"""pixels of a page in a notebook"""


@documented(Config, shown=EVALUATION_HELP)
def evaluate(
    data: PathLike | Any | None = None,
    *,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    config: PathLike | None = None,
    **settings: Unpack[EvaluateKeywords],
) -> Report:
    """Evaluate a checkpoint on validation images, and detect in test images that have no annotations.

    Example::

        report = evaluate("my_data", checkpoint=run.best)
        report.AP, report.per_class
        report.show()

    The settings of the model come from the checkpoint. Other settings of training are accepted and have no effect.

    Args:
        data: folder or file of a data set from any labelling tool, or a data set in memory in the form of `train`.
        classes: classes of a data set in memory; None takes the classes of the checkpoint.
        config: YAML file of settings; keyword arguments win over it.

    Returns:
        The metrics, with AP of each class, and the detections. A test image that can't be read is logged, and listed in
        ``report.unreadable``.

    Raises:
        InputError: a setting, the checkpoint or the data is wrong; a `ValueError` of one line.
    """
    with python_call():
        memory = in_memory(data)
        given = dict(settings) if memory or data is None else {"data": data, **settings}
        resolved, names = settings_from((Config,), given, usage="evaluate(data, checkpoint=...)", config=config)
        read_data = None
        if memory:
            from dino_detector.training.item_data import ItemData

            read_data = ItemData(None, data, classes)
        elif classes is not None:
            raise InputError("classes is for data sets in memory; files name their classes")
        if resolved.distributed.distributed:
            raise InputError("evaluate runs in one process; dino-detector evaluate --distributed runs in several")
        evaluated = evaluate_and_write(resolved, names, read_data=read_data)
        assert evaluated is not None
        for reason in evaluated.found.unreadable:
            log.warning("%s", reason)
        return Report(evaluated)


@documented(AnalyzeSettings)
def analyze(data: PathLike | None = None, **settings: Unpack[AnalyzeKeywords]) -> Analysis:
    """Show how good a detector is and what it gets wrong: a report, tables, charts and pictures.

    Example::

        analyze(metrics_file="outputs/val_metrics_epoch_10.json").show()

    Give one of three inputs. ``metrics_file``: metrics of a training or an evaluation; of two files the first is the
    baseline. ``predictions_file``: detections, with their images in ``test_images``. ``run_eval=True``: evaluate
    ``model_path`` on ``data``, or on ``val_images`` with ``val_annotations``.

    Args:
        data: folder or file of a data set from any labelling tool, in place of images and annotations.

    Returns:
        The metrics, and the files that were written.

    Raises:
        InputError: a setting or a file is wrong; a `ValueError` of one line.
    """
    with python_call():
        given = settings if data is None else {"data": data, **settings}
        (resolved,) = settings_from((AnalyzeSettings,), given, usage="analyze(metrics_file=...)")
        return Analysis(analyze_with(resolved))


class Report:
    """Results of an evaluation.

    Attributes:
        metrics: COCO metrics on the validation images; None without validation images.
        detections: detections in the validation images, as COCO results.
        test_detections: detections in the test images, as COCO results.
        unreadable: a line for each test image that can't be read.
        folder: the output folder.
        files: files of the results, by what they are.
    """

    def __init__(self, evaluated: Evaluated) -> None:
        found, files, test_predictions = evaluated
        self.metrics: CocoMetrics | None = found.metrics
        self.detections: list[dict[str, Any]] = found.results
        self.test_detections: list[dict[str, Any]] = found.test_results
        self.unreadable: tuple[str, ...] = found.unreadable
        self.folder: Path = found.config.training.output_dir
        written = {} if files is None else {"metrics": files.metrics, "detections": files.predictions}
        self.files: dict[str, Path] = written | (
            {} if test_predictions is None else {"test_detections": test_predictions}
        )

    @property
    def AP(self) -> float:
        """Mean average precision over the IoU thresholds 0.50, 0.55 .. 0.95; -1 without boxes to find."""
        return self._measured().AP

    @property
    def AP50(self) -> float:
        """Average precision at IoU 0.50; -1 without boxes to find."""
        return self._measured().AP50

    @property
    def per_class(self) -> tuple[ClassMetrics, ...]:
        """AP, AP50 and the number of boxes of each class, by ascending category id."""
        return self._measured().per_class

    def analyze(self, **settings: Unpack[AnalyzeKeywords]) -> Analysis:
        """Analyze the metrics, into the subfolder ``analysis`` of the output folder unless the settings name another.

        Raises:
            InputError: there are no metrics.
        """
        self._measured()
        given: dict[str, Any] = {"output_dir": self.folder / "analysis", "num_visualizations": 0}
        return analyze(**{**given, **settings, "metrics_file": self.files["metrics"]})

    def show(self) -> Path:
        """Show the report page: in the cell of a notebook, elsewhere as its address in the log; return its path.

        Raises:
            InputError: there are no metrics.
        """
        return self.analyze().show()

    def _measured(self) -> CocoMetrics:
        if self.metrics is None:
            raise InputError("there are no metrics, because there were no validation images; name some")
        return self.metrics

    def __repr__(self) -> str:
        files = [f"  {path}" for path in self.files.values()]
        return "\n".join([f"Report: {self.metrics or 'no metrics, as there were no validation images'}", *files])

    def _repr_html_(self) -> str:
        files = html_table((), [(what.replace("_", " "), os.fspath(path)) for what, path in self.files.items()])
        return html_block("Evaluation", "" if self.metrics is None else self.metrics._repr_html_(), files)


class Analysis:
    """Results of an analysis.

    Attributes:
        metrics: COCO metrics; None without ground truth.
        baseline: metrics of the evaluation that it is compared with; None without one.
        detections: as COCO results; None if they are not at hand.
        files: the written files, each with its meaning.
    """

    def __init__(self, analyzed: Analyzed) -> None:
        self.metrics: CocoMetrics | None = analyzed.run.metrics
        self.baseline: CocoMetrics | None = None if analyzed.baseline is None else analyzed.baseline.metrics
        self.detections: list[dict[str, Any]] | None = analyzed.run.results
        self.files: dict[Path, str] = analyzed.written

    @property
    def page(self) -> Path | None:
        """The report page; None without ground truth."""
        return next((path for path in self.files if path.suffix == ".html"), None)

    def show(self) -> Path:
        """Show the report page: in the cell of a notebook, elsewhere as its address in the log; return its path.

        Raises:
            InputError: there is no page.
        """
        page = self.page
        if page is None:
            raise InputError("there is no report: it takes ground truth to tell good detections from bad")
        with python_call():
            show_page(page)
        return page

    def __repr__(self) -> str:
        lines = [f"Analysis: {self.metrics or 'no metrics, as there is no ground truth'}"]
        return "\n".join(lines + [f"  {path}  {meaning}" for path, meaning in self.files.items()])

    def _repr_html_(self) -> str:
        rows = [(os.fspath(path), meaning) for path, meaning in self.files.items()]
        return html_block("Analysis", "" if self.metrics is None else self.metrics._repr_html_(), html_table((), rows))


def show_page(page: Path) -> None:
    """Show a page in the cell of a notebook; elsewhere log its address."""
    if not in_notebook():
        log.info("the report: %s", page.resolve().as_uri())
        return
    from html import escape

    from IPython.display import HTML, display

    # The page goes into the notebook as a whole, because browsers open no files of the disk from there.
    text = escape(page.read_text(encoding="utf-8"))
    style = "width:100%;border:1px solid #ccc"
    display(HTML(f'<iframe srcdoc="{text}" height="{HEIGHT}" style="{style}"></iframe>'))
