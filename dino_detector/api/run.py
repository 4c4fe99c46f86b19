"""Training in Python, and runs: their files, metrics, history and detector."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from dino_detector.api.calling import documented, in_memory, python_call, settings_from, short_errors
from dino_detector.api.keywords import PathLike
from dino_detector.api.keywords.train import TrainKeywords
from dino_detector.api.processes import train_in_processes
from dino_detector.commands.train import train as train_with
from dino_detector.config import Config
from dino_detector.config.resolving import read_settings_file
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.structures.html import html_block, html_table
from dino_detector.structures.metrics import CocoMetrics, number_text
from dino_detector.structures.run_names import BEST, HISTORY, LAST

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    from dino_detector.inference.detector import Detector

METRICS = re.compile(r"val_metrics_epoch_(\d+)\.json")
FIXED = ("output_dir", "checkpoint", "skip_checkpoint_load", "only_evaluate", "lightweight")
"""settings that `Run.resume` takes from the run"""
SHOWN = ("epoch", "loss", "AP", "AP50", "learning_rate", "images_per_second")
"""columns of the history that a notebook shows"""
MOST_EPOCHS = 10


@documented(Config)
def train(
    data: PathLike | Any | None = None,
    *,
    val: Any | None = None,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    config: PathLike | None = None,
    **settings: Unpack[TrainKeywords],
) -> Run:
    """Train a detector on labelled images.

    Example::

        import dino_detector as dd
        run = dd.train("my_data", epochs=30, lightweight=True)
        run.metrics.AP, run.best

    A cell or a program can be interrupted: the files of the finished steps are in the output folder, and the function
    raises `StoppedByUser`. ``train("my_data", checkpoint="outputs/dino_detector_last.pth", ...)`` with the same
    settings resumes the run, and so does ``Run.open("outputs").resume()``.

    Args:
        data: folder or file of a data set from any labelling tool. Or a data set in memory: an object with ``len`` and
            items ``(image, target)`` such as a `torch.utils.data.Dataset`. An image is a PIL image, an array, or a
            tensor ``[3, H, W]``, uint8 or float in 0..1. A target is a dictionary: ``"boxes"`` ``[N, 4]``, left, top,
            right and bottom in pixels, and ``"labels"`` ``[N]``, whole numbers; N may be 0. Random transforms of the
            data set show in every epoch.
        val: validation data set in memory, without random transforms; None trains without evaluation.
        classes: classes of a data set in memory: a list of names for labels from 0, or a mapping from label to name.
        callbacks: Lightning callbacks. With ``distributed``, training runs in other processes, which callbacks,
            loggers and a data set in memory can't reach.
        loggers: Lightning loggers, beside those that the setting ``logger`` names.
        config: YAML file of settings; keyword arguments win over it.

    Returns:
        The run, with metrics, history and detector.

    Raises:
        InputError: a setting or the data is wrong, or training can't go on; a `ValueError` of one line.
        StoppedByUser: the user interrupted the run.
    """
    with python_call():
        memory = in_memory(data)
        if memory and val is not None and not in_memory(val, "val"):
            raise InputError(f"val must be a data set in memory, as data is one, and not the path {str(val)!r}")
        given = dict(settings) if memory or data is None else {"data": data, **settings}
        resolved, names = settings_from((Config,), given, usage="train(data, epochs=30)", config=config)
        if resolved.training.only_evaluate:
            raise InputError("only_evaluate is for the command line; call evaluate(data, checkpoint=...)")
        extras: dict[str, Any] = {"callbacks": callbacks, "loggers": loggers}
        if memory:
            if classes is None:
                raise InputError('a data set in memory needs classes, such as ["cat", "dog"] for labels from 0')
            from dino_detector.training.item_data import ItemData

            extras["read_data"] = ItemData(data, val, classes)
        elif val is not None or classes is not None:
            name = "val" if val is not None else "classes"
            raise InputError(f"{name} is for data sets in memory; val_images and val_annotations name files")
        return _trained(resolved, names, extras)


def _trained(config: Config, given: Set[str], extras: dict[str, Any]) -> Run:
    """Train, and return the run; ``extras`` are objects of this program: callbacks, loggers and data."""
    _require_lightning(extras["callbacks"], extras["loggers"])
    if config.tiling.tile_size is not None:
        raise InputError(
            "tile_size is for evaluation and prediction; leave it out, and call evaluate(data, checkpoint=..., "
            f"tile_size={config.tiling.tile_size}) after the training"
        )
    if not config.distributed.distributed:
        return Run(config.training.output_dir, train_with(config, given, **extras))
    if objects := [name for name, value in extras.items() if value]:
        what = {"read_data": "a data set in memory"}.get(objects[0], objects[0])
        raise InputError(f"distributed trains in other processes, which {what} can't reach; leave one out")
    train_in_processes(config, given)
    return Run.open(config.training.output_dir)


def _require_lightning(callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> None:
    """Raise `InputError` for an object that is no callback or no logger of Lightning."""
    if not callbacks and not loggers:
        return
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    for name, kind, given in (("callbacks", Callback, callbacks), ("loggers", Logger, loggers)):
        several = given if isinstance(given, (list, tuple)) else [given]
        if given is not several and given != ():
            raise InputError(f"{name} must be a list, not {type(given).__name__}; put it in brackets")
        for one in several:
            if not isinstance(one, kind):
                package = (
                    "" if not type(one).__module__.startswith("pytorch_lightning") else "; import it from lightning"
                )
                raise InputError(f"{name} must be of lightning.pytorch, not {type(one).__name__}{package}")


class Run:
    """A training run: its files, and what they hold.

    Example::

        run = Run.open("outputs")
        run.metrics.AP, run.history, run.detector.predict("photo.jpg")

    Attributes:
        folder: the output folder.
        metrics: metrics of the last evaluation; None without validation images.
        records: record of each epoch, in the order of the epochs, as a list of dictionaries.
    """

    def __init__(self, folder: Path, metrics: CocoMetrics | None) -> None:
        self.folder = folder
        self.metrics = metrics
        self.records: list[dict[str, float]] = _read_history(folder / HISTORY)

    @classmethod
    @short_errors
    def open(cls, folder: PathLike = "outputs") -> Run:
        """Open a run by its output folder; raise `InputError` if there is none."""
        path = Path(folder)
        with python_call():
            if not (path / LAST).is_file():
                raise InputError(f"{path}: has no run, as {LAST} is not in it; give the output_dir of a training")
            files = {METRICS.fullmatch(file.name): file for file in path.glob("val_metrics_epoch_*.json")}
            evaluated = {int(match[1]): file for match, file in files.items() if match}  # no copies of the user
            return cls(path, CocoMetrics.read(evaluated[max(evaluated)]) if evaluated else None)

    @property
    def last(self) -> Path:
        """Checkpoint of the last step, to resume from."""
        return self.folder / LAST

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the highest AP; the last checkpoint if no AP was measured."""
        best = self.folder / BEST
        return best if best.exists() else self.last

    @property
    def config(self) -> Config:
        """All settings of the run."""
        with python_call():
            return Config.from_flat(read_settings_file(self.folder / "config.yaml"))

    @property
    def history(self) -> Any:
        """Record of each epoch, counted from 1, of resumed runs too: losses, learning rate, speed, and metrics.

        The value is a pandas DataFrame where pandas is installed, and a list of dictionaries elsewhere. An epoch
        without an evaluation has no metrics (NaN in a DataFrame).
        """
        try:
            import pandas
        except ImportError:
            return self.records
        return pandas.DataFrame(self.records)

    @cached_property
    def detector(self) -> Detector:
        """The detector of the best checkpoint, ready to predict."""
        from dino_detector.inference.detector import Detector

        with python_call():
            return Detector.load(self.best)

    @short_errors
    def resume(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        **settings: Unpack[TrainKeywords],
    ) -> Run:
        """Resume a run on files from its last checkpoint, in its folder, with its settings and the given ones.

        Args:
            callbacks: Lightning callbacks; the callbacks of the first call are not stored.
            loggers: Lightning loggers; the loggers of the first call are not stored.

        Raises:
            InputError: a given setting does not fit the run, or the run trained on a data set in memory.
            StoppedByUser: the user interrupted the run.
        """
        with python_call():
            config = self.config
            if not (config.data.data or config.data.train_images or config.data.download_train_data):
                raise InputError(
                    f"{self.folder}: its data is not named; call train(..., checkpoint={str(self.last)!r})"
                )
            if fixed := [name for name in FIXED if name in settings]:
                raise InputError(
                    f"{fixed[0]} is not for resume, which goes on in {self.folder}; leave it out, or call train(...)"
                )
            own = {"output_dir": self.folder, "checkpoint": self.last, "skip_checkpoint_load": False}
            values = config.flat() | own | dict(settings)
            resolved, _ = settings_from((Config,), values, usage="", named=settings)
            return _trained(resolved, frozenset(values), {"callbacks": callbacks, "loggers": loggers})

    def __repr__(self) -> str:
        return "\n".join([f"Run in {self.folder}", *(f"  {name:<11} {text}" for name, text in self._facts().items())])

    def _repr_html_(self) -> str:
        facts = html_table((), list(self._facts().items()))
        records = self.records[-MOST_EPOCHS:]
        names = [name for name in SHOWN if any(name in record for record in records)]
        rows = [[_cell(name, record.get(name)) for name in names] for record in records]
        metrics = "" if self.metrics is None else self.metrics._repr_html_()
        return html_block(f"Run in {self.folder}", facts, html_table(names, rows) if rows else "", metrics)

    def _facts(self) -> dict[str, str]:
        """Return the facts of the run by name."""
        records, facts = self.records, {}
        if records:
            from dino_detector.training.estimate import about

            duration = about(sum(record["seconds"] for record in records))
            facts["trained"] = f"{counted(len(records), 'epoch')} in {duration}, last loss {records[-1]['loss']:.3f}"
        if self.metrics is not None:
            numbers = f"AP {number_text(self.metrics.AP)}, AP50 {number_text(self.metrics.AP50)}"
            facts["metrics"] = f"{numbers} on {counted(self.metrics.num_images, 'image')} in the last evaluation"
        measured = [record for record in records if "AP" in record]
        if measured:
            best = max(measured, key=lambda record: record["AP"])
            facts["best epoch"] = f"{best['epoch']}, AP {best['AP']:.3f}"
        return facts | {"best": os.fspath(self.best), "last": os.fspath(self.last)}


def _read_history(path: Path) -> list[dict[str, float]]:
    """Return the records of a run; none if the file is not there, as in a run that stopped in its first epoch."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    digits = {"epoch": "d", "learning_rate": ".2e", "images_per_second": ".1f"}
    return format(value, digits.get(name, ".3f"))
