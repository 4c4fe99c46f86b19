"""Object detection on a frozen DINOv2 backbone: LoRA adapters, a DETR-like decoder, small checkpoints.

Example:
    >>> from dino_detector import Detector
    >>> detector = Detector.load("outputs/dino_detector_final.pth")
    >>> detections = detector.predict("street.jpg")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino_detector.config import Config
    from dino_detector.inference.detector import Detector
    from dino_detector.inference.detector_group import DetectorGroup
    from dino_detector.inference.exported_detector import ExportedDetector

__version__ = "0.1.0"
_MODULES = {
    "Config": "config",
    "Detector": "inference.detector",
    "DetectorGroup": "inference.detector_group",
    "ExportedDetector": "inference.exported_detector",
}
__all__ = ["Config", "Detector", "DetectorGroup", "ExportedDetector", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package costs nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"dino_detector.{_MODULES[name]}"), name)
