"""Files of an evaluation: the metrics, and the detections in the format of https://cocodataset.org/#format-results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.storage.files import write_whole
from dino_detector.structures.metrics import CocoMetrics


class EvaluationFiles(NamedTuple):
    """The two files of an evaluation, and its images and annotations, which the metrics file names."""

    metrics: Path
    predictions: Path
    images: Path
    """folder of the evaluated images"""
    annotations: Path
    """COCO detection JSON of the evaluated images, and perhaps of others"""

    @classmethod
    def of(cls, folder: Path, ending: str, *, images: Path, annotations: Path) -> EvaluationFiles:
        """Return ``val_metrics`` and ``val_predictions`` in a folder, with an ending such as ``_epoch_3``."""
        metrics, predictions = (folder / f"val_{kind}{ending}.json" for kind in ("metrics", "predictions"))
        return cls(metrics, predictions, images, annotations)

    @classmethod
    def named_in(cls, path: Path, content: dict[str, Any]) -> EvaluationFiles | None:
        """Return the files that the content of a metrics file names, which may not exist; None if it names none."""
        values = [content.get(name) for name in ("predictions", "val_images", "val_annotations")]
        if not all(isinstance(value, str) and value for value in values):
            return None
        predictions, images, annotations = values
        return cls(path, path.with_name(Path(predictions).name), Path(images), Path(annotations))

    def write(self, metrics: CocoMetrics, results: list[dict[str, Any]], **extra: Any) -> None:
        """Write the detections, then the metrics with ``extra`` entries; each file is complete or absent."""
        write_results(self.predictions, results)
        data = {"val_images": str(self.images.resolve()), "val_annotations": str(self.annotations.resolve())}
        metrics.write(self.metrics, **extra, predictions=self.predictions.name, **data)


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write COCO results as a JSON array, one result a line, by image id and then as given.

    The file is complete or absent, and does not depend on which process detected in which image.
    """
    ordered = sorted(results, key=lambda result: result["image_id"])
    lines = ",\n".join(json.dumps(result, allow_nan=False) for result in ordered)
    write_whole(path, f"[\n{lines}\n]\n")
