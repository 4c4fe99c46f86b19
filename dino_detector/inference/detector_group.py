"""Several detectors over one frozen trunk that runs once for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dino_detector.data.windows import Window
from dino_detector.errors import InputError
from dino_detector.inference.description import classes_text
from dino_detector.inference.detector import Detector
from dino_detector.inference.image_detector import ImagePredictor
from dino_detector.inference.tiling import merge_views
from dino_detector.models.device import autocast_to
from dino_detector.plain_text import counted
from dino_detector.structures.detections import ImageDetections

if TYPE_CHECKING:
    import supervision


class DetectorGroup(ImagePredictor[list[ImageDetections]]):
    """Detectors over the same trunk, which is in memory once and runs once for an image.

    Example:
        >>> group = DetectorGroup(["cars/dino_detector_best.pth", "signs/dino_detector_best.pth"])
        >>> cars, signs = group.predict("street.jpg")

    A detector finds the same objects in a group and alone.

    Args:
        checkpoints: files that training or `Detector.save` wrote; base, frozen layers, image size and resize mode are
            the same in all of them.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        dino_model: name or folder of the base model; None takes the name in the checkpoints.

    Attributes:
        detectors: in the order of the checkpoints.

    Raises:
        InputError: a file is no checkpoint, the base can't be loaded, or two detectors have different trunks.
    """

    def __init__(
        self,
        checkpoints: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        device: str = "auto",
        dino_model: str | None = None,
    ) -> None:
        if isinstance(checkpoints, str | os.PathLike):
            checkpoints = [checkpoints]
        paths = [Path(path) for path in checkpoints]
        if not paths:
            raise InputError("a group needs at least one checkpoint")
        self.detectors: list[Detector] = []
        for path in paths:
            detector = Detector.load(path, device=device, dino_model=dino_model)
            if self.detectors:
                _require_same_trunk(self.detectors[0], detector, names=(paths[0], path))
                detector.backbone.share_trunk(self.detectors[0].backbone)
            self.detectors.append(detector)
        self.white_level = self.detectors[0].white_level
        self._kept = {layer for detector in self.detectors for layer in detector.backbone.feature_layers}

    def __repr__(self) -> str:
        shared = f"on one trunk, {self.detectors[0].config.backbone.dino_model}"
        classes = [f"  {classes_text(detector.categories)}" for detector in self.detectors]
        return "\n".join([f"DetectorGroup: {counted(len(self.detectors), 'detector')} {shared}", *classes])

    def optimize(self, *, precision: str = "auto") -> DetectorGroup:
        """Optimize all detectors, see `Detector.optimize`."""
        for detector in self.detectors:
            detector.optimize(precision=precision)
        return self

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[list[ImageDetections]]:
        """Return for each image a list with the detections of each detector, see `ImagePredictor.detect`."""
        first = self.detectors[0]
        with autocast_to(first.inference_precision, first.device):
            tokens = first.backbone.trunk(first.prepare(images), keep=self._kept)
        found = [detector.detect(images, tokens=tokens) for detector in self.detectors]
        return [list(of_image) for of_image in zip(*found, strict=True)]

    def merge_views(self, views: Sequence[Window], found: Sequence[list[ImageDetections]]) -> list[ImageDetections]:
        """Merge the views of each detector, see `inference.tiling.merge_views`."""
        return [merge_views(views, of_detector) for of_detector in zip(*found, strict=True)]

    def to_supervision(self, found: list[ImageDetections], threshold: float) -> list[supervision.Detections]:
        """Return the detections of each detector with a score of at least ``threshold``."""
        return [one.to_supervision(each, threshold) for one, each in zip(self.detectors, found, strict=True)]


def _require_same_trunk(first: Detector, second: Detector, *, names: tuple[Path, Path]) -> None:
    """Raise `InputError` where two detectors have different trunks or preprocess images differently."""
    for detector, name in zip((first, second), names, strict=True):
        if detector.header.base_fingerprint is None:
            raise InputError(
                f"{name}: has a backbone of its own, from --train_backbone full or --backbone_weights random, and so "
                "shares no trunk; use it alone"
            )
    wanted = {
        "number of frozen layers (--lora_layers, --feature_layers)": lambda one: one.backbone.trunk_depth,
        "base model, up to the last of --feature_layers,": lambda one: one.header.base_fingerprint[:12],
        "--image_size": lambda one: str(one.config.data.image_size),
        "--resize_mode": lambda one: one.config.data.resize_mode,
        "--white_level": lambda one: one.config.data.white_level,
        "normalisation": lambda one: (one.header.mean, one.header.std),
    }
    for what, of in wanted.items():
        if of(first) != of(second):
            raise InputError(
                f"{names[1]}: its {what} is {of(second)}, but {names[0]} has {of(first)}; train the detectors of a "
                "group with the same value"
            )
