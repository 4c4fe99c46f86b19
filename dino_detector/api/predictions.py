"""Prediction and export in Python."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from dino_detector.api.calling import documented, progress, python_call, settings_from
from dino_detector.api.keywords import PathLike
from dino_detector.api.keywords.export import ExportKeywords
from dino_detector.api.keywords.predict import PredictKeywords
from dino_detector.commands.export import export as export_with
from dino_detector.commands.predict import RESULTS
from dino_detector.commands.predict import predict as predict_with
from dino_detector.config import TilingConfig
from dino_detector.config.commands import ExportSettings, InferenceSettings, PredictSettings
from dino_detector.errors import InputError
from dino_detector.plain_text import counted
from dino_detector.structures.html import html_block, html_table

if TYPE_CHECKING:
    import supervision

    from dino_detector.commands.predict import Output, Source
    from dino_detector.inference.detector_group import DetectorGroup
    from dino_detector.structures.detections import ImageDetections

log = logging.getLogger(__name__)


@documented(PredictSettings, InferenceSettings, TilingConfig)
def predict(image_or_folder: PathLike | Sequence[PathLike], **settings: Unpack[PredictKeywords]) -> Predictions:
    """Detect objects in a picture, some pictures, or a folder of pictures.

    Example::

        for detections in predict("photos", checkpoint=run.best, threshold=0.4):
            print(detections.xyxy, detections.confidence, detections.data["class_name"])

    Like the command, the function writes each picture with its boxes and predictions.json to ``output_dir``.
    `Detector.predict` writes nothing, and takes images in memory.

    Args:
        image_or_folder: a picture, a list of pictures, or a folder; its pictures are read in the order of their names.

    Returns:
        ``supervision.Detections`` of each picture, and the picture's path. For several checkpoints, a list of
        ``supervision.Detections`` of each picture, in the order of the checkpoints. A picture that can't be read is
        logged, listed in ``unreadable``, and has no result.

    Raises:
        InputError: a setting or a checkpoint is wrong, or none of the pictures can be read; a `ValueError` of one line.
        StoppedByUser: the user interrupted the work; the results of finished pictures are written.
    """
    with python_call():
        paths = image_or_folder if isinstance(image_or_folder, (list, tuple)) else [image_or_folder]
        for path in paths:
            if not isinstance(path, (str, os.PathLike)):
                kind = type(path).__name__
                raise InputError(f"predict takes paths, not {kind}; Detector.load(checkpoint).predict takes images")
        if not paths:
            raise InputError("give at least one picture")
        given = {"image_or_folder": paths[0], **settings}
        groups = (PredictSettings, InferenceSettings, TilingConfig)
        prediction, *running = settings_from(groups, given, usage='predict("photo.jpg", checkpoint=...)')
        watcher = Collected(len(prediction.checkpoint))
        try:
            _, unreadable = predict_with(
                prediction, *running, watcher, pictures=[Path(path) for path in paths] if len(paths) > 1 else None
            )
        finally:
            watcher.close()
        for reason in unreadable:
            log.warning("%s", reason)
        if not watcher.paths:
            raise InputError(unreadable[-1])
        return Predictions(watcher.paths, watcher.results, unreadable, prediction.output_dir)


@documented(ExportSettings)
def export(**settings: Unpack[ExportKeywords]) -> Path:
    """Write a detector as a file that ONNX Runtime or OpenVINO runs, without PyTorch and the base model.

    Example::

        path = export(checkpoint=run.best, output="detector.onnx")
        ExportedDetector.load(path).predict("photo.jpg")

    Returns:
        The path of the file.

    Raises:
        InputError: a setting or the checkpoint is wrong, or a package is missing; a `ValueError` of one line.
    """
    with python_call():
        (resolved,) = settings_from((ExportSettings,), settings, usage="export(checkpoint=...)")
        export_with(resolved)
        return resolved.output


class Collected:
    """Collects the detections of each picture, behind a progress bar."""

    def __init__(self, detectors: int) -> None:
        self.paths: list[Path] = []
        self.results: list[Any] = []
        self._detectors = detectors
        self._of_picture: list[supervision.Detections] = []
        self._bar: Any = None

    def begin(self, group: DetectorGroup, sources: Sequence[Source], left_out: str) -> None:
        """Start the bar."""
        if left_out:
            log.info("%s", left_out)
        self._bar = progress(len(sources) if len(sources) > 1 else 0, unit="pictures")

    def found(self, source: Source, output: Output, shown: ImageDetections) -> None:
        """Add the detections of a detector in a picture."""
        self._of_picture.append(shown.to_supervision(output.detector.categories))
        if len(self._of_picture) == self._detectors:
            self.paths.append(source.path)
            self.results.append(self._of_picture[0] if self._detectors == 1 else self._of_picture)
            self._of_picture = []
            self._bar.update()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


class Predictions(Sequence[Any]):
    """Detections of each picture, in the order of the pictures: ``supervision.Detections``.

    Attributes:
        pictures: paths of the pictures, in the same order.
        unreadable: a line for each picture that can't be read, and has no detections here.
        folder: the output folder, with the drawn pictures and predictions.json.
    """

    def __init__(self, pictures: list[Path], results: list[Any], unreadable: list[str], folder: Path) -> None:
        self.pictures = pictures
        self.unreadable = unreadable
        self.folder = folder
        self._results = results

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, index: Any) -> Any:
        """Return the detections of a picture, or of a slice of the pictures."""
        return self._results[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._results)

    def _rows(self) -> list[tuple[str, str]]:
        """Return each picture and the number of its objects by class."""
        rows = []
        for path, found in zip(self.pictures, self._results, strict=True):
            parts = found if isinstance(found, list) else [found]
            counts = Counter(str(name) for part in parts for name in part.data["class_name"])
            rows.append((os.fspath(path), ", ".join(f"{counts[name]} {name}" for name in sorted(counts)) or "nothing"))
        return rows

    def __repr__(self) -> str:
        lines = [f"Predictions in {counted(len(self), 'picture')}; pictures with boxes and {RESULTS} in {self.folder}"]
        rows = self._rows()
        lines += [f"  {path}: {objects}" for path, objects in rows[:10]]
        lines += [f"  and {len(rows) - 10:,} more"] if len(rows) > 10 else []
        return "\n".join(lines + [f"  can't be read: {reason}" for reason in self.unreadable[:10]])

    def _repr_html_(self) -> str:
        title = f"Predictions in {counted(len(self), 'picture')}, drawn in {self.folder}"
        return html_block(title, html_table(("picture", "objects"), self._rows()))
