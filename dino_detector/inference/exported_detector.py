"""Exported detectors: files that ONNX Runtime and OpenVINO run without PyTorch's network and the base model.

The graph takes ``images``, uint8 RGB ``[B, 3, h, w]`` of the network's input size. It returns, by descending score,
``boxes_cxcywh`` ``[B, K, 4]`` float in 0..1 of the input, ``scores`` ``[B, K]`` float and ``labels`` ``[B, K]`` int64.
The graph normalises and selects the best detections; its adapters are merged. The file's metadata holds a `Description`
as JSON under the name `METADATA`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dino_detector.config import ImageSize
from dino_detector.data.windows import resize_to_input
from dino_detector.errors import InputError
from dino_detector.inference.image_detector import ImageDetector
from dino_detector.inference.postprocess import BestPairs, in_original_pixels
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections

METADATA = "dinov2_od"
OUTPUTS = BestPairs._fields
RUNNERS = {".onnx": ("onnxruntime",), ".xml": ("openvino",)}
"""packages that run a file, by its suffix"""
Runtime = Callable[[np.ndarray], Sequence[np.ndarray]]
"""runs the graph of a file on images, and returns the outputs in the order of `OUTPUTS`"""


class Description(NamedTuple):
    """Everything that an exported detector needs beside its graph."""

    categories: Categories
    image_size: ImageSize
    resize_mode: str
    batch_size: int
    white_level: float | None

    def to_json(self) -> str:
        """Return the metadata of a file."""
        categories = {"ids": self.categories.ids, "names": self.categories.names}
        return json.dumps(self._asdict() | {"categories": categories})

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Return the description that `to_json` wrote."""
        values = json.loads(text)
        categories = Categories(*(tuple(values["categories"][name]) for name in ("ids", "names")))
        return cls(categories, ImageSize(*values["image_size"]), *(values[name] for name in cls._fields[2:]))


class ExportedDetector(ImageDetector):
    """Detects objects with a file that `Detector.export` wrote, run by ONNX Runtime or OpenVINO.

    Example:
        >>> from dino_detector import ExportedDetector
        >>> detector = ExportedDetector.load("detector.onnx")
        >>> detections = detector.predict("street.jpg")
    """

    def __init__(self, runtime: Runtime, description: Description) -> None:
        self.run, self.description = runtime, description
        self.categories, self.white_level = description.categories, description.white_level

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> ExportedDetector:
        """Read a file, and run it on the CPU.

        Args:
            path: with the suffix ``.onnx`` or ``.xml``.
            threads: number of CPU threads; None leaves the number to the library.

        Raises:
            InputError: where a package is missing, or `Detector.export` did not write the file.
        """
        path = Path(path)
        require_packages(path, RUNNERS)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            runtime, text = (_read_onnx if path.suffix == ".onnx" else _read_openvino)(path, threads)
        except RuntimeError as error:
            raise InputError(f"{path}: can't be read ({' '.join(str(error).split())[:200]})") from error
        if text is None:
            raise InputError(f"{path}: not written by `dino-detector export`; give a file that it wrote")
        return cls(runtime, Description.from_json(text))

    def detect(self, images: Sequence[Tensor]) -> list[ImageDetections]:
        """See `ImagePredictor.detect`; copies of the last image pad the last batch."""
        wanted = self.description
        resize = partial(resize_to_input, image_size=wanted.image_size, resize_mode=wanted.resize_mode)
        found = []
        for start in range(0, len(images), wanted.batch_size):
            batch = images[start : start + wanted.batch_size]
            filled = [*batch, *[batch[-1]] * (wanted.batch_size - len(batch))]
            columns = self.run(torch.stack([resize(image) for image in filled]).numpy())
            found += in_original_pixels(
                BestPairs(*(torch.from_numpy(column[: len(batch)]) for column in columns)),
                original_sizes=torch.tensor([image.shape[1:] for image in batch]),
                image_size=wanted.image_size,
                resize_mode=wanted.resize_mode,
            )
        return found


def require_packages(path: Path, packages: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` where a path has an unknown suffix, or a package for its suffix is not installed."""
    if path.suffix not in packages:
        raise InputError(f"{path}: is neither .onnx, for ONNX Runtime, nor .xml, for OpenVINO; give it such a name")
    for package in packages[path.suffix]:
        if find_spec(package) is None:
            raise InputError(f"{path}: needs the package {package}; pip install {' '.join(packages[path.suffix])}")


def _read_onnx(path: Path, threads: int | None) -> tuple[Runtime, str | None]:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NotImplemented

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NotImplemented) as error:
        raise RuntimeError(str(error)) from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    return lambda images: session.run(OUTPUTS, {"images": images}), text


def _read_openvino(path: Path, threads: int | None) -> tuple[Runtime, str | None]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    text = model.get_rt_info(METADATA).astype(str) if model.has_rt_info(METADATA) else None
    # Left to itself it computes boxes in bf16 too, where there are instructions for it.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", settings | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))

    def run(images: np.ndarray) -> list[np.ndarray]:
        results = compiled(images)
        return [results[name] for name in OUTPUTS]

    return run, text
