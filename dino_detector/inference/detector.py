"""The detector: the network with its categories, its preprocessing and its files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino_detector.config import Config
from dino_detector.config.commands import InferenceSettings
from dino_detector.data.pictures.opening import allow_megapixels
from dino_detector.data.windows import resize_to_input
from dino_detector.errors import InputError
from dino_detector.inference.description import detector_html, detector_text
from dino_detector.inference.image_detector import ImageDetector
from dino_detector.inference.postprocess import best_pairs, in_original_pixels
from dino_detector.models.checkpoint import HEADER, CheckpointHeader, read_checkpoint, write_checkpoint
from dino_detector.models.cpu import optimize_for_cpu
from dino_detector.models.cpu.heap import keep_freed_memory
from dino_detector.models.detector_network import DetectorNetwork
from dino_detector.models.device import LOW_PRECISION, autocast_to, resolve_device, resolve_precision
from dino_detector.models.dinov2_backbone import Dinov2Backbone, Tokens, build_backbone
from dino_detector.models.dinov2_base import check_image_size, fingerprint, image_statistics
from dino_detector.models.layer_copies import LayerCopies
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections
from dino_detector.structures.predictions import DecoderOutput


class Detector(DetectorNetwork, ImageDetector):
    """Finds the objects of a data set's categories in images.

    Example:
        >>> detector = Detector.load("outputs/dino_detector_final.pth")
        >>> detections = detector.predict("street.jpg", threshold=0.5)
        >>> boxes, names = detections.xyxy, detections.data["class_name"]

    Args:
        backbone: DINOv2, split into trunk and tail.
        header: settings, categories and normalisation; a checkpoint carries it.

    Raises:
        InputError: the backbone's patch does not divide the input size.
    """

    def __init__(self, backbone: Dinov2Backbone, header: CheckpointHeader) -> None:
        config = header.config
        check_image_size(config.data.image_size, backbone.patch_size)
        super().__init__(backbone, config.decoder, num_classes=len(header.categories), mean=header.mean, std=header.std)
        self.header, self.config, self.categories = header, config, header.categories
        self.white_level = config.data.white_level
        self.inference_precision = "32"

    def __repr__(self) -> str:
        """Return classes, base, sizes and accuracy in a few lines; ``print(detector.backbone)`` shows its layers."""
        return detector_text(self)

    def _repr_html_(self) -> str:
        return detector_html(self)

    def optimize(self, *, precision: str = "auto") -> Detector:
        """Make detection fast on the detector's device: adapters merged, in the device's fastest precision.

        Example:
            >>> detector = Detector.load("outputs/dino_detector_best.pth").optimize()

        Scores and boxes stay float32 in any precision, and `save` writes unchanged weights. The backbone keeps a second
        copy of its matrices, of half their size in bf16 and 16. On a CPU the process keeps freed memory for the next
        picture.

        Args:
            precision: ``32``, ``bf16``, ``16``, or ``auto``: bf16 where the device has instructions for it.

        Raises:
            InputError: for an unknown precision, or a precision that the device lacks.
        """
        self.inference_precision = resolve_precision(precision, self.device)
        self.backbone.run_layer = LayerCopies(LOW_PRECISION.get(self.inference_precision, torch.float32))
        if self.device.type == "cpu":
            optimize_for_cpu(self)
            keep_freed_memory()
        self.neck.to(memory_format=torch.channels_last)  # the layout of the backbone's maps
        return self.merge()

    def optimize_training(self, *, precision: str, device: torch.device) -> None:
        """Make training fast on a device in a precision of `optimize`; the results stay the same up to rounding."""
        if device.type == "cpu":
            optimize_for_cpu(self)
        lower = LOW_PRECISION.get(resolve_precision(precision, device), torch.float32)
        self.backbone.run_layer = LayerCopies(lower, frozen_only=True)

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor], *, tokens: Tokens | None = None) -> list[ImageDetections]:
        """See `ImagePredictor.detect`; the trunk does not run where ``tokens`` holds its output for the images."""
        assert not self.training, "call eval() first: dropout would change the result"
        with autocast_to(self.inference_precision, self.device):
            output = self(self.prepare(images)) if tokens is None else self.decode(tokens)
        return self.detections(output, torch.tensor([image.shape[1:] for image in images]))

    def prepare(self, images: Sequence[Tensor]) -> Tensor:
        """Resize and normalise uint8 RGB images ``[3, H, W]``; return ``[B, 3, H, W]`` on the network's device."""
        data = self.config.data
        resized = [resize_to_input(image, image_size=data.image_size, resize_mode=data.resize_mode) for image in images]
        return self.normalise(torch.stack(resized).to(self.device))

    def detections(self, output: DecoderOutput, original_sizes: Tensor) -> list[ImageDetections]:
        """Return predictions as detections in pixels of images with sizes ``[B, 2]``, height first."""
        data, best = self.config.data, best_pairs(output.logits[-1], output.boxes_cxcywh[-1])
        return in_original_pixels(
            best, original_sizes=original_sizes, image_size=data.image_size, resize_mode=data.resize_mode
        )

    def export(self, path: str | os.PathLike[str], *, batch_size: int = 1, precision: str = "32") -> None:
        """Write the detector for ONNX Runtime (``.onnx``) or OpenVINO (``.xml``), see `inference.export`."""
        from dino_detector.inference.export import export
        from dino_detector.inference.exported_detector import Description

        data, device = self.config.data, self.device
        description = Description(self.categories, data.image_size, data.resize_mode, batch_size, data.white_level)
        try:
            export(self.merge().cpu(), Path(path), description=description, precision=precision)
        finally:
            self.to(device)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint for prediction and evaluation: the trained weights and the header, no training state."""
        merged = self.backbone.adapters_are_merged
        self.backbone.unmerge_adapters()  # a checkpoint with base weights must hold them unmerged
        weights = {f"detector.{name}": value.cpu() for name, value in self.state_dict().items()}
        try:
            write_checkpoint({HEADER: self.header.to_dict(), "state_dict": weights}, Path(path))
        except FloatingPointError as error:
            raise InputError(f"{path}: not written, as {error}; load a checkpoint of an earlier epoch") from error
        finally:
            if merged:
                self.backbone.merge_adapters()

    @classmethod
    def load(
        cls, checkpoint: str | os.PathLike[str], *, device: str = "auto", dino_model: str | None = None
    ) -> Detector:
        """Build the detector of a checkpoint, ready for `predict`, adapters merged.

        Args:
            checkpoint: any file that training or `save` wrote.
            device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            dino_model: name or folder of the base model; None takes the name in the checkpoint.

        Raises:
            InputError: the file is no checkpoint, or the base can't be loaded or has other weights than in training.
        """
        header, contents = read_checkpoint(Path(checkpoint))
        detector = build_from_checkpoint(header, contents, source=Path(checkpoint), dino_model=dino_model)
        return detector.to(resolve_device(device)).merge()


def build_detector(config: Config, *, categories: Categories) -> Detector:
    """Build a detector to train: the config's backbone with a new neck and decoder.

    Raises:
        InputError: the base can't be loaded, or the settings do not fit it.
    """
    backbone = build_backbone(config.backbone)
    mean, std = image_statistics(config.backbone)
    holds_all = config.backbone.train_backbone == "full" or config.backbone.backbone_weights == "random"
    base = Path(config.backbone.dino_model)
    if base.is_dir() and not holds_all:
        config = config.replace(dino_model=str(base.resolve()))  # commands in other folders read the checkpoint
    header = CheckpointHeader(
        config=config,
        categories=categories,
        mean=mean,
        std=std,
        architecture=json.loads(backbone.model.config.to_json_string(use_diff=False)),
        base_fingerprint=None if holds_all else fingerprint(backbone.model),
    )
    return Detector(backbone, header)


def load_detector(checkpoint: Path, settings: InferenceSettings) -> Detector:
    """Load a detector that is ready to run as the settings say."""
    allow_megapixels(settings.max_megapixels)
    detector = Detector.load(checkpoint, device=settings.device, dino_model=settings.dino_model)
    return detector.optimize(precision=settings.precision)


def build_from_checkpoint(
    header: CheckpointHeader, contents: dict[str, Any], *, source: Path, dino_model: str | None = None
) -> Detector:
    """Build the detector of a checkpoint's contents, in evaluation mode on the CPU, adapters not merged.

    Raises:
        InputError: the base or the weights do not fit; the message names ``source``.
    """
    trained_on = header.config.backbone.dino_model
    if dino_model is not None:
        header = replace(header, config=header.config.replace(dino_model=dino_model))
    config = header.config
    if header.base_fingerprint is None:
        backbone = build_backbone(config.backbone, architecture=header.architecture)
    else:
        backbone = build_backbone(config.backbone)
        if fingerprint(backbone.model) != header.base_fingerprint:
            raise InputError(
                f"{source}: was trained on another base than {config.backbone.dino_model!r} (the fingerprints of the "
                f"weights differ); give the base of its training, then called {trained_on!r}, with --dino_model"
            )
    detector = Detector(backbone, header)
    load_weights(detector, contents, source=source)
    return detector.eval()


def load_weights(detector: Detector, contents: dict[str, Any], *, source: Path) -> None:
    """Load the weights of a checkpoint into a detector with the same settings.

    Raises:
        InputError: the weights do not fit; the message names ``source``.
    """
    weights = {name.removeprefix("detector."): value for name, value in contents["state_dict"].items()}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: its weights do not fit its settings ({reason[:200]})") from error
