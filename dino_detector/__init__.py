"""Object detection on a frozen DINOv2 backbone: LoRA adapters, a DETR-like decoder, small checkpoints.

Train, evaluate and detect::

    import dino_detector as dd

    run = dd.train("my_data", epochs=30, lightweight=True)
    report = dd.evaluate("my_data", checkpoint=run.best)
    detections = run.detector.predict("street.jpg")

Example:
    >>> from dino_detector import Detector
    >>> detector = Detector.load("outputs/dino_detector_final.pth")
    >>> detections = detector.predict("street.jpg")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino_detector.api.data import DataReport, check_data, convert, recommend
    from dino_detector.api.labelling import doubts, label, suggest
    from dino_detector.api.predictions import Predictions, export, predict
    from dino_detector.api.report import Analysis, Report, analyze, evaluate
    from dino_detector.api.run import Run, train
    from dino_detector.config import Config
    from dino_detector.data.demo_set import write_demo_set
    from dino_detector.errors import InputError, StoppedByUser
    from dino_detector.inference.detector import Detector
    from dino_detector.inference.detector_group import DetectorGroup
    from dino_detector.inference.exported_detector import ExportedDetector
    from dino_detector.structures.metrics import CocoMetrics

__version__ = "0.1.0"
_MODULES = {
    "Analysis": "api.report",
    "CocoMetrics": "structures.metrics",
    "Config": "config",
    "DataReport": "api.data",
    "Detector": "inference.detector",
    "DetectorGroup": "inference.detector_group",
    "ExportedDetector": "inference.exported_detector",
    "InputError": "errors",
    "Predictions": "api.predictions",
    "Report": "api.report",
    "Run": "api.run",
    "StoppedByUser": "errors",
    "analyze": "api.report",
    "check_data": "api.data",
    "convert": "api.data",
    "doubts": "api.labelling",
    "evaluate": "api.report",
    "export": "api.predictions",
    "label": "api.labelling",
    "predict": "api.predictions",
    "recommend": "api.data",
    "suggest": "api.labelling",
    "train": "api.run",
    "write_demo_set": "data.demo_set",
}
__all__ = [
    "Analysis",
    "CocoMetrics",
    "Config",
    "DataReport",
    "Detector",
    "DetectorGroup",
    "ExportedDetector",
    "InputError",
    "Predictions",
    "Report",
    "Run",
    "StoppedByUser",
    "__version__",
    "analyze",
    "check_data",
    "convert",
    "doubts",
    "evaluate",
    "export",
    "label",
    "predict",
    "recommend",
    "suggest",
    "train",
    "write_demo_set",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package costs nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"dino_detector.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
